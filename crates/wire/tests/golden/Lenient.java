import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import org.apache.rocketmq.common.*;
import org.apache.rocketmq.common.admin.*;
import org.apache.rocketmq.common.protocol.body.*;
import org.apache.rocketmq.common.protocol.heartbeat.*;
import org.apache.rocketmq.common.protocol.route.*;
import org.apache.rocketmq.common.subscription.*;
import org.apache.rocketmq.remoting.protocol.*;

/** Reads lenient-inputs.txt as RocketMQ does and prints what it understood, or `refused`. See README.md. */
public final class Lenient {
    static final Class<?>[] CLASSES = {HeartbeatData.class, SubscriptionData.class, TopicConfig.class, DataVersion.class,
        ConsumeStats.class, ConsumerOffsetSerializeWrapper.class, KVTable.class, TopicRouteData.class,
        LockBatchRequestBody.class, ResetOffsetBody.class, SubscriptionGroupConfig.class, Connection.class};

    public static void main(String[] args) throws Exception {
        Path dir = Paths.get(args[0]);
        StringBuilder out = new StringBuilder();
        for (String line : Files.readAllLines(dir.resolve("lenient-inputs.txt"))) {
            String[] parts = line.split("\t", 2);
            out.append(parts[0]).append('\t').append(parts[1]).append('\t');
            byte[] bytes = parts[1].getBytes(StandardCharsets.UTF_8);
            try {
                if (parts[0].equals("Header")) {
                    RemotingCommand c = RemotingSerializable.decode(bytes, RemotingCommand.class);
                    out.append(c.getCode()).append(' ').append(c.getFlag()).append(' ').append(c.getLanguage()).append(' ')
                        .append(c.getRemark()).append(' ')
                        .append(c.getExtFields() == null ? "{}" : new TreeMap<>(c.getExtFields()).toString());
                } else {
                    for (Class<?> k : CLASSES) {
                        if (k.getSimpleName().equals(parts[0])) {
                            out.append(RemotingSerializable.toJson(RemotingSerializable.decode(bytes, k), false));
                        }
                    }
                }
            } catch (Throwable t) {
                out.append("refused");
            }
            out.append('\n');
        }
        Files.write(dir.resolve("lenient.txt"), out.toString().getBytes(StandardCharsets.UTF_8));
    }
}
