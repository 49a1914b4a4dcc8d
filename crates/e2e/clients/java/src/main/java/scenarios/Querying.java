package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Looking messages up by key and by id, and asking for offsets. */
@SuppressWarnings("deprecation") // queries are deprecated in 5.x, and there
final class Querying {
    private Querying() {
    }

    static void byKey(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 2);
        List<SendResult> results = new ArrayList<>();
        long began = System.currentTimeMillis();
        for (int i = 0; i < 12; i++) {
            Message message = new Message(topic, "tag", "shared own-" + i, ("body " + i).getBytes(UTF_8));
            results.add(producer.send(message, queues.get(i % 2)));
        }
        stage.until("the index", () -> found(producer, topic, "own-11", 0, Long.MAX_VALUE, 32).size() == 1);
        print(stage, "own-3", found(producer, topic, "own-3", 0, Long.MAX_VALUE, 32));
        print(stage, "shared", found(producer, topic, "shared", 0, Long.MAX_VALUE, 32));
        stage.line("shared, 5 at most: %d", found(producer, topic, "shared", 0, Long.MAX_VALUE, 5).size());
        stage.line("shared, from the start of this scenario: %d", found(producer, topic, "shared", began - 1000, began + 600_000, 32).size());
        stage.line("shared, long ago: %s", absent(producer, topic, "shared", 0, began - 3_600_000));
        stage.line("no such key: %s", absent(producer, topic, "nothing", 0, Long.MAX_VALUE));
        stage.line("part of a key: %s", absent(producer, topic, "share", 0, Long.MAX_VALUE));
        stage.line("key of another topic: %s", absent(producer, stage.own("other"), "shared", 0, Long.MAX_VALUE));
        String unique = results.get(4).getMsgId();
        MessageExt message = producer.viewMessage(topic, unique);
        stage.line("by unique key: %s", Stage.describe(message));
    }

    static void byId(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 1);
        SendResult small = producer.send(stage.message(topic, 1), queues.get(0));
        SendResult large = producer.send(new Message(topic, "zip", "large", "large ".repeat(20_000).getBytes(UTF_8)), queues.get(0));
        stage.line("small: %s", Stage.describe(view(producer, topic, small.getOffsetMsgId())));
        stage.line("large: %s", Stage.describe(view(producer, topic, large.getOffsetMsgId())));
        String id = small.getOffsetMsgId();
        stage.refused("an offset between records", () -> view(producer, topic, id.substring(0, 16) + String.format("%016X", Long.parseLong(id.substring(16), 16) + 1)));
        stage.refused("an offset beyond the end", () -> view(producer, topic, id.substring(0, 16) + "00000FFFFFFFFFFF"));
    }

    private static MessageExt view(DefaultMQProducer producer, String topic, String id) throws Exception {
        return producer.viewMessage(topic, id);
    }

    static void offsets(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 2);
        MessageQueue queue = queues.get(0);
        MessageQueue empty = queues.get(1);
        for (int i = 0; i < 20; i++) {
            producer.send(stage.message(topic, i), queue);
            Thread.sleep(3); // store times of their own
        }
        List<MessageExt> messages = stage.stored(topic, 2, 20);
        messages.sort(Comparator.comparingLong(MessageExt::getQueueOffset));
        DefaultMQPullConsumer consumer = stage.pullConsumer(stage.own("group"));
        stage.line("min %d, max %d", consumer.minOffset(queue), consumer.maxOffset(queue));
        stage.line("empty: min %d, max %d", consumer.minOffset(empty), consumer.maxOffset(empty));
        for (int i : new int[] {0, 1, 7, 19}) {
            long time = messages.get(i).getStoreTimestamp();
            stage.line("at the time of message %d: %d", i, consumer.searchOffset(queue, time));
            stage.line("just after message %d: %d", i, consumer.searchOffset(queue, time + 1));
        }
        stage.line("at time 0: %d", consumer.searchOffset(queue, 0));
        stage.line("in a year: %d", consumer.searchOffset(queue, System.currentTimeMillis() + 31_536_000_000L));
        stage.line("empty, at time 0: %d", consumer.searchOffset(empty, 0));
        stage.line("empty, now: %d", consumer.searchOffset(empty, System.currentTimeMillis()));
        long earliest = consumer.earliestMsgStoreTime(queue);
        stage.line("earliest is the first message's time: %b", earliest == messages.get(0).getStoreTimestamp());
        stage.line("empty, earliest: %d", consumer.earliestMsgStoreTime(empty));
        MessageQueue none = new MessageQueue(topic, queue.getBrokerName(), 9);
        stage.line("queue 9: min %d, max %d", consumer.minOffset(none), consumer.maxOffset(none));
    }

    static void groupOffsets(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 2);
        stage.fill(producer, queues, 0, 10);
        stage.stored(topic, 2, 10);
        DefaultMQPullConsumer consumer = stage.pullConsumer(stage.own("group"));
        MessageQueue queue = queues.get(0);
        stage.line("never committed: %d", consumer.fetchConsumeOffset(queue, true));
        for (long offset : new long[] {3, 5, 2, 0, 4711}) { // backwards and beyond the end as given
            consumer.updateConsumeOffset(queue, offset);
            consumer.getOffsetStore().persist(queue);
            stage.until("the offset", () -> consumer.fetchConsumeOffset(queue, true) == offset);
            stage.line("committed %d: %d", offset, consumer.fetchConsumeOffset(queue, true));
        }
        stage.line("the other queue: %d", consumer.fetchConsumeOffset(queues.get(1), true));
        DefaultMQPullConsumer other = stage.pullConsumer(stage.own("other-group"));
        stage.line("another group: %d", other.fetchConsumeOffset(queue, true));
    }

    private static List<MessageExt> found(DefaultMQProducer producer, String topic, String key, long begin, long end, int max)
        throws InterruptedException {
        try {
            QueryResult result = producer.queryMessage(topic, key, max, begin, end);
            List<MessageExt> messages = new ArrayList<>(result.getMessageList());
            messages.sort(Comparator.comparingInt(MessageExt::getQueueId).thenComparingLong(MessageExt::getQueueOffset));
            return messages;
        } catch (MQClientException none) {
            return List.of();
        }
    }

    private static String absent(DefaultMQProducer producer, String topic, String key, long begin, long end) throws InterruptedException {
        try {
            return producer.queryMessage(topic, key, 32, begin, end).getMessageList().size() + " FOUND";
        } catch (MQClientException e) {
            return Stage.refusal(e);
        }
    }

    private static void print(Stage stage, String what, List<MessageExt> messages) {
        messages.forEach(message -> stage.line("%s: %s", what, Stage.describe(message)));
    }
}
