package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.PrintStream;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;

/**
 * A stock producer with default settings under way while servers come and go, and a consumer behind it.
 *
 * <p>Prints {@code acked=N failed=M consumed=K} five times a second. When its standard input ends it stops sending,
 * waits until everything acknowledged was consumed, and prints the last line, which begins with {@code end}.
 */
final class Load {
    private Load() {
    }

    static void run(Options options, PrintStream out) throws Exception {
        String topic = options.get("load");
        DefaultMQProducer producer = new DefaultMQProducer("load-producer");
        producer.setNamesrvAddr(options.get("namesrv"));
        producer.start();

        Set<String> acked = ConcurrentHashMap.newKeySet();
        Map<String, Integer> consumed = new ConcurrentHashMap<>();
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
                        if (producer.send(new Message(topic, "load", key, key.getBytes(UTF_8))).getSendStatus() == SendStatus.SEND_OK) {
                            acked.add(key);
                        } else {
                            failed.incrementAndGet();
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

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("load-consumer");
        consumer.setNamesrvAddr(options.get("namesrv"));
        consumer.setPollNameServerInterval(1000);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(m -> consumed.merge(new String(m.getBody(), UTF_8), 1, Integer::sum));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();

        Thread report = new Thread(() -> {
            while (true) {
                out.printf("acked=%d failed=%d consumed=%d%n", acked.size(), failed.get(), consumed.size());
                LockSupport.parkNanos(200_000_000);
            }
        });
        report.setDaemon(true);
        report.start();

        while (System.in.read() >= 0) {
            // Whoever started us keeps the pipe open as long as we shall send.
        }
        stop.set(true);
        for (Thread sender : senders) {
            sender.join();
        }
        long deadline = System.nanoTime() + 120_000_000_000L;
        while (!consumed.keySet().containsAll(acked) && System.nanoTime() < deadline) {
            Thread.sleep(50);
        }
        long missing = acked.stream().filter(key -> !consumed.containsKey(key)).count();
        long repeated = consumed.values().stream().filter(n -> n > 1).count();
        out.printf("end acked=%d failed=%d consumed=%d missing=%d repeated=%d slowest_ms=%d%n",
            acked.size(), failed.get(), consumed.size(), missing, repeated, slowest.get());
    }
}
