package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Takes every message and remembers it in the order of arrival. */
final class Listener {
    private final Collection<MessageExt> received = new ConcurrentLinkedQueue<>();

    Listener listen(DefaultMQPushConsumer consumer) {
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            received.addAll(messages);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        return this;
    }

    Listener listenOrderly(DefaultMQPushConsumer consumer) {
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            received.addAll(messages);
            return ConsumeOrderlyStatus.SUCCESS;
        });
        return this;
    }

    int size() {
        return received.size();
    }

    List<MessageExt> received() {
        return new ArrayList<>(received);
    }

    /** Prints what came, by queue and offset; a repetition is shown as such. */
    void print(Stage stage, String who) {
        print(stage, who, received());
    }

    static void print(Stage stage, String who, Collection<MessageExt> messages) {
        Map<Integer, List<Long>> byQueue = new TreeMap<>();
        for (MessageExt message : messages) {
            byQueue.computeIfAbsent(message.getQueueId(), q -> new ArrayList<>()).add(message.getQueueOffset());
        }
        byQueue.forEach((queue, offsets) -> {
            boolean once = new TreeSet<>(offsets).size() == offsets.size();
            stage.line("%s: queue %d, %d messages%s, offsets %s", who, queue, offsets.size(),
                once ? "" : " WITH REPETITIONS", ranges(new TreeSet<>(offsets)));
        });
    }

    /** Prints the order of arrival in each queue. */
    void printOrder(Stage stage, String who) {
        Map<Integer, List<String>> byQueue = new TreeMap<>();
        for (MessageExt message : received) {
            byQueue.computeIfAbsent(message.getQueueId(), q -> new ArrayList<>()).add(new String(message.getBody(), UTF_8));
        }
        byQueue.forEach((queue, bodies) -> stage.line("%s: queue %d in order %s", who, queue, bodies));
    }

    private static String ranges(TreeSet<Long> offsets) {
        List<String> ranges = new ArrayList<>();
        Long first = null;
        Long last = null;
        for (Long offset : offsets) {
            if (last != null && offset == last + 1) {
                last = offset;
                continue;
            }
            if (first != null) {
                ranges.add(first + ".." + last);
            }
            first = offset;
            last = offset;
        }
        ranges.add(first + ".." + last);
        return String.join(" ", ranges);
    }

    /** The ids of the queues that a running consumer holds just now. */
    static TreeSet<Integer> queuesHeld(DefaultMQPushConsumer consumer, String topic) {
        TreeSet<Integer> held = new TreeSet<>();
        for (MessageQueue queue : consumer.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet()) {
            if (queue.getTopic().equals(topic)) {
                held.add(queue.getQueueId());
            }
        }
        return held;
    }
}
