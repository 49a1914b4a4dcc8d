package scenarios;

import java.util.HashMap;
import java.util.Map;

/** The command line: {@code --name value} pairs. */
final class Options {
    private final Map<String, String> values = new HashMap<>();

    Options(String[] args) {
        for (int i = 0; i + 1 < args.length; i += 2) {
            values.put(args[i].substring(2), args[i + 1]);
        }
    }

    boolean has(String name) {
        return values.containsKey(name);
    }

    String get(String name) {
        return java.util.Objects.requireNonNull(values.get(name), "--" + name + " is missing");
    }

    String get(String name, String otherwise) {
        return values.getOrDefault(name, otherwise);
    }
}
