package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** The lite pull consumer, in both of its ways to get queues. */
final class LitePulling {
    private LitePulling() {
    }

    static void subscribe(Stage stage) throws Exception {
        String topic = stage.own("topic");
        String group = stage.own("group");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 4);
        stage.fill(producer, queues, 0, 40);
        DefaultLitePullConsumer consumer = consumer(stage, group);
        consumer.subscribe(topic, "*");
        consumer.setAutoCommit(false);
        consumer.start();
        List<MessageExt> received = poll(stage, consumer, 40);
        Listener.print(stage, "polled", received);
        consumer.commitSync(); // in memory; a timer takes it to the broker
        stage.printCommitted(producer, group, queues, 40);
        consumer.shutdown();

        stage.fill(producer, queues, 40, 8);
        DefaultLitePullConsumer next = consumer(stage, group);
        next.subscribe(topic, "*");
        next.start();
        Listener.print(stage, "polled after a restart", poll(stage, next, 8));
    }

    static void assign(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 2);
        stage.fill(producer, queues, 0, 20);
        stage.stored(topic, 2, 20);
        DefaultLitePullConsumer consumer = consumer(stage, stage.own("group"));
        consumer.setAutoCommit(false);
        consumer.start();
        Collection<MessageQueue> fetched = consumer.fetchMessageQueues(topic);
        stage.line("queues: %s", new TreeSet<>(fetched.stream().map(MessageQueue::getQueueId).toList()));
        MessageQueue one = fetched.stream().max(Comparator.comparingInt(MessageQueue::getQueueId)).orElseThrow();
        consumer.assign(Set.of(one));
        Listener.print(stage, "one queue", poll(stage, consumer, 10));
        consumer.seek(one, 7);
        Listener.print(stage, "sought 7", poll(stage, consumer, 3));
        consumer.seekToBegin(one);
        Listener.print(stage, "sought the beginning", poll(stage, consumer, 10));
        consumer.seekToEnd(one);
        producer.send(new org.apache.rocketmq.common.message.Message(topic, "last".getBytes(UTF_8)), queues.get(one.getQueueId()));
        Listener.print(stage, "sought the end", poll(stage, consumer, 1));
        stage.line("committed before: %d", consumer.committed(one));
        consumer.commitSync();
        stage.until("the commit", () -> consumer.committed(one) == 11);
        stage.line("committed: %d", consumer.committed(one));
        stage.line("offset for time 0: %d", consumer.offsetForTimestamp(one, 0L));
    }

    private static DefaultLitePullConsumer consumer(Stage stage, String group) {
        DefaultLitePullConsumer consumer = stage.settled(new DefaultLitePullConsumer(group));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        stage.closeLater(consumer::shutdown);
        return consumer;
    }

    private static List<MessageExt> poll(Stage stage, DefaultLitePullConsumer consumer, int count) throws Exception {
        List<MessageExt> received = new ArrayList<>();
        stage.until(count + " messages", () -> {
            received.addAll(consumer.poll(200));
            return received.size() >= count;
        });
        return received;
    }
}
