import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.Properties;
import java.util.Random;

/**
 * Prints what java.util.Properties makes of hand-picked and of random inputs, one per line: the input in
 * hexadecimal, then key=value pairs in the order of the input, both in hexadecimal (UTF-8), or "error".
 *
 * java PropertiesGolden.java > properties.txt      (JDK 17)
 */
public class PropertiesGolden {
    static final HexFormat HEX = HexFormat.of();

    static void print(byte[] input) {
        StringBuilder line = new StringBuilder(HEX.formatHex(input));
        Properties inOrder = new Properties() {
            @Override
            public synchronized Object put(Object key, Object value) {
                line.append(' ').append(hex((String) key)).append('=').append(hex((String) value));
                return null;
            }
        };
        try {
            inOrder.load(new ByteArrayInputStream(input));
        } catch (Exception error) {
            line.setLength(input.length * 2);
            line.append(" error");
        }
        System.out.println(line);
    }

    static String hex(String text) {
        return HEX.formatHex(text.getBytes(StandardCharsets.UTF_8));
    }

    public static void main(String[] args) {
        String[] picked = {
            "a=b", "a = b", "a:b", "a b", "a   =  :b", "a==b", "a\\=c=b", "a\\:c b", "a\\ c=b", "=b", ":", "a", "a=", " \t\fa=b",
            "a=b ", "a=b\t ", "# x\n! y\na=b", "a=1#2", "a=b\\", "a=b\\\n", "a=b\\\nc", "a=b\\\n   c", "a=b\\\r\n c\r\nd=e", "a=b\\\n\nc=d",
            "a=b\\\n#c\nd=e", "\\\n#c\nd=e", "\\\n a=b", "\\", "\\\n", "\\\\", "a=\\\\\nb=c", "a=\\\\\\\nb=c", "a=\\t\\n\\r\\f\\q\\\"", "a=\\u0041\\u4e2d",
            "a=\\ud83d\\ude00", "a=\\u00zz", "a=\\u00", "\\u0061=b", "a=\u00e4\u00ff", "a=b\rc=d\r\ne=f\n\n\ng=h", "a=b\na=c", "  # x\\\na=b",
            "brokerName = broker-a \n", "namesrvAddr=192.168.0.1:9876;192.168.0.2:9876", "messageDelayLevel=1s 5s 10s", "a\\\n b=c", "a\\\n =c", "a \\\n b", "a=\\\n  \\\n  b",
        };
        for (String text : picked) {
            print(text.getBytes(StandardCharsets.ISO_8859_1));
        }
        Random random = new Random(4098);
        String letters = "ab01=: \t\f\\\\\\\n\n\r#!u\u00e9";
        for (int i = 0; i < 1500; i++) {
            byte[] input = new byte[1 + random.nextInt(14)];
            for (int at = 0; at < input.length; at++) {
                input[at] = (byte) letters.charAt(random.nextInt(letters.length()));
            }
            print(input);
        }
    }
}
