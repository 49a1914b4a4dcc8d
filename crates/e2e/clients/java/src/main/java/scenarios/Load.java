package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.PrintStream;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * A stock producer with default settings under way while servers come and go, and a consumer behind it.
 *
 * <p>Prints {@code acked=N failed=M consumed=K} five times a second, and for each broker how many messages it
 * acknowledged and how many of these were not consumed yet. An {@code s} on its standard input suspends the consumer,
 * an {@code r} resumes it. When the input ends it stops sending, waits until everything acknowledged was consumed, with
 * {@code --audit} reads it all again as a new group, and prints the last line, which begins with {@code end}.
 */
final class Load {
    private Load() {
    }

    static void run(Options options, PrintStream out) throws Exception {
        String topic = options.get("load");
        DefaultMQProducer producer = new DefaultMQProducer("load-producer");
        producer.setNamesrvAddr(options.get("namesrv"));
        producer.start();

        Map<String, String> acked = new ConcurrentHashMap<>(); // key to broker
        Map<String, Integer> consumed = new ConcurrentHashMap<>();
        Map<String, Integer> statuses = new ConcurrentHashMap<>();
        AtomicInteger failed = new AtomicInteger();
        AtomicLong slowest = new AtomicLong();
        AtomicBoolean stop = new AtomicBoolean();
        int threads = Integer.parseInt(options.get("threads", "4"));
        Thread[] senders = new Thread[threads];
        for (int t = 0; t < threads; t++) {
            int sender = t;
            senders[t] = new Thread(() -> {
                for (int i = 0; !stop.get(); i++) {
                    String key = sender + "-" + i;
                    long began = System.nanoTime();
                    try {
                        SendResult sent = producer.send(new Message(topic, "load", key, key.getBytes(UTF_8)));
                        if (sent.getSendStatus() == SendStatus.SEND_OK) {
                            acked.put(key, sent.getMessageQueue().getBrokerName());
                        } else {
                            failed.incrementAndGet();
                            statuses.merge(sent.getSendStatus() + "@" + sent.getMessageQueue().getBrokerName(), 1, Integer::sum);
                        }
                    } catch (Exception e) {
                        failed.incrementAndGet();
                        out.println("failed after " + (System.nanoTime() - began) / 1_000_000 + " ms: " + e);
                    }
                    slowest.accumulateAndGet((System.nanoTime() - began) / 1_000_000, Math::max);
                    LockSupport.parkNanos(4_000_000); // busy, but not for the sake of speed
                }
            }, "sender-" + t);
            senders[t].start();
        }

        DefaultMQPushConsumer consumer = consumer(options, "load-consumer", consumed);
        consumer.start();

        Thread report = new Thread(() -> {
            while (true) {
                out.printf("acked=%d failed=%d consumed=%d%s%n", acked.size(), failed.get(), consumed.size(), byBroker(acked, consumed));
                LockSupport.parkNanos(200_000_000);
            }
        });
        report.setDaemon(true);
        report.start();

        // Whoever started us keeps the pipe open as long as we shall send.
        for (int order = System.in.read(); order >= 0; order = System.in.read()) {
            if (order == 's') {
                consumer.suspend();
            } else if (order == 'r') {
                consumer.resume();
            }
        }
        stop.set(true);
        for (Thread sender : senders) {
            sender.join();
        }
        awaitAll(acked.keySet(), consumed);
        Map<String, Integer> audited = new ConcurrentHashMap<>();
        if (options.has("audit")) {
            DefaultMQPushConsumer auditor = consumer(options, "load-auditor", audited);
            auditor.start();
            awaitAll(acked.keySet(), audited);
            out.println("audited: " + byBroker(acked, audited).trim());
        }
        if (!statuses.isEmpty()) {
            out.println("other answers: " + statuses);
        }
        long missing = acked.keySet().stream().filter(key -> !consumed.containsKey(key)).count();
        long lost = options.has("audit") ? acked.keySet().stream().filter(key -> !audited.containsKey(key)).count() : 0;
        long repeated = consumed.values().stream().filter(n -> n > 1).count();
        out.printf("end acked=%d failed=%d consumed=%d missing=%d lost=%d repeated=%d slowest_ms=%d%n",
            acked.size(), failed.get(), consumed.size(), missing, lost, repeated, slowest.get());
    }

    private static DefaultMQPushConsumer consumer(Options options, String group, Map<String, Integer> consumed) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(options.get("namesrv"));
        consumer.setPollNameServerInterval(Integer.parseInt(options.get("poll", "1000")));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(options.get("load"), "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(m -> consumed.merge(new String(m.getBody(), UTF_8), 1, Integer::sum));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        return consumer;
    }

    private static void awaitAll(Set<String> keys, Map<String, Integer> consumed) throws InterruptedException {
        long deadline = System.nanoTime() + 120_000_000_000L;
        while (!consumed.keySet().containsAll(keys) && System.nanoTime() < deadline) {
            Thread.sleep(50);
        }
    }

    private static String byBroker(Map<String, String> acked, Map<String, Integer> consumed) {
        Map<String, int[]> figures = new TreeMap<>();
        acked.forEach((key, broker) -> {
            int[] figure = figures.computeIfAbsent(broker, b -> new int[2]);
            figure[0]++;
            figure[1] += consumed.containsKey(key) ? 0 : 1;
        });
        StringBuilder text = new StringBuilder();
        figures.forEach((broker, f) -> text.append(" acked@" + broker + "=" + f[0] + " unread@" + broker + "=" + f[1]));
        return text.toString();
    }
}
