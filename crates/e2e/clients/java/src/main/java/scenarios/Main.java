package scenarios;

import java.io.PrintStream;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Plays the scenarios against the servers behind one name server address and prints one transcript.
 *
 * <p>Several scenarios run at a time, each with topics, groups and clients of its own; the transcript keeps the order
 * below whatever ends first. Exit status 1 when a scenario did not get to its end.
 */
public final class Main {
    private static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();

    static {
        // The slow ones first: they wait while the others work.
        SCENARIOS.put("retry-ladder", Retrying::ladder);
        SCENARIOS.put("retry-throws", Retrying::listenerThrows);
        SCENARIOS.put("send-back-by-hand", Retrying::sendBackByHand);
        SCENARIOS.put("delay-levels", Delaying::levels);
        SCENARIOS.put("share", Sharing::concurrently);
        SCENARIOS.put("share-ordered", Sharing::orderly);
        SCENARIOS.put("restart", Consuming::restart);
        SCENARIOS.put("clustered", Consuming::clustered);
        SCENARIOS.put("broadcast", Consuming::broadcast);
        SCENARIOS.put("tags", Consuming::tags);
        SCENARIOS.put("from-last", Consuming::fromLast);
        SCENARIOS.put("ordered", Ordering::ordered);
        SCENARIOS.put("ordered-suspend", Ordering::suspended);
        SCENARIOS.put("pull", Pulling::pull);
        SCENARIOS.put("pull-waits", Pulling::waitsForTheNextMessage);
        SCENARIOS.put("lite-pull-subscribe", LitePulling::subscribe);
        SCENARIOS.put("lite-pull-assign", LitePulling::assign);
        SCENARIOS.put("send-sync", Sending::sync);
        SCENARIOS.put("send-async", Sending::async);
        SCENARIOS.put("send-one-way", Sending::oneWay);
        SCENARIOS.put("send-batch", Sending::batch);
        SCENARIOS.put("send-compressed", Sending::compressed);
        SCENARIOS.put("send-creates-topic", Sending::createsTopic);
        SCENARIOS.put("query-by-key", Querying::byKey);
        SCENARIOS.put("query-by-id", Querying::byId);
        SCENARIOS.put("offsets", Querying::offsets);
        SCENARIOS.put("group-offsets", Querying::groupOffsets);
        SCENARIOS.put("refused", Refusals::refused);
        SCENARIOS.put("refused-transaction", Refusals::transaction);
    }

    private Main() {
    }

    public static void main(String[] args) throws Exception {
        Options options = new Options(args);
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        if (options.has("load")) {
            Load.run(options, out);
            System.exit(0);
        }
        if (options.has("read") || options.has("hand-over")) {
            try {
                HandOver.run(options, out);
            } catch (Throwable e) {
                // Threads of clients that are under way would keep the program alive.
                e.printStackTrace();
                System.exit(1);
            }
            System.exit(0);
        }
        Set<String> wanted = new HashSet<>(options.has("only") ? List.of(options.get("only").split(",")) : SCENARIOS.keySet());
        if (options.has("skip")) {
            wanted.removeAll(List.of(options.get("skip").split(",")));
        }
        List<Future<Stage>> plays = new ArrayList<>();
        var pool = Executors.newFixedThreadPool(Integer.parseInt(options.get("threads", "8")));
        SCENARIOS.forEach((name, scenario) -> {
            if (wanted.contains(name)) {
                plays.add(pool.submit(() -> play(new Stage(options, name), scenario)));
            }
        });
        boolean complete = plays.size() == wanted.size();
        for (Future<Stage> play : plays) {
            Stage stage = play.get();
            out.print(stage.transcript());
            complete &= stage.complete();
        }
        System.exit(complete ? 0 : 1);
    }

    private static Stage play(Stage stage, Scenario scenario) {
        long began = System.nanoTime();
        try (stage) {
            scenario.play(stage);
        } catch (Throwable e) {
            stage.broken(e);
        }
        System.err.printf("%-22s %6d ms%n", stage.name(), (System.nanoTime() - began) / 1_000_000);
        return stage;
    }
}
