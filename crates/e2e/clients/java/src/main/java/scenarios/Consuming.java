package scenarios;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Push consumers that are alone in their group, or broadcast. */
final class Consuming {
    private Consuming() {
    }

    static void clustered(Stage stage) throws Exception {
        String topic = stage.own("topic");
        String group = stage.own("group");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 4);
        stage.fill(producer, queues, 0, 100);
        DefaultMQPushConsumer consumer = stage.pushConsumer(group);
        consumer.subscribe(topic, "*");
        Listener listener = new Listener().listen(consumer);
        consumer.start();
        stage.until("100 messages", () -> listener.size() >= 100);
        stage.fill(producer, queues, 100, 40); // now the consumer waits at the end of every queue
        stage.until("140 messages", () -> listener.size() >= 140);
        stage.printCommitted(producer, group, queues, 140, consumer);
        consumer.shutdown();
        listener.print(stage, "consumer");
        listener.received().stream().map(Stage::describe).sorted().limit(8).forEach(stage::line);
    }

    static void restart(Stage stage) throws Exception {
        String topic = stage.own("topic");
        String group = stage.own("group");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 4);
        for (int run = 0; run < 3; run++) {
            stage.fill(producer, queues, run * 20, 20);
            DefaultMQPushConsumer consumer = stage.pushConsumer(group);
            consumer.subscribe(topic, "*");
            Listener listener = new Listener().listen(consumer);
            consumer.start();
            stage.until("20 messages", () -> listener.size() >= 20);
            stage.printCommitted(producer, group, queues, run * 20 + 20, consumer);
            consumer.shutdown();
            listener.print(stage, "run " + run);
        }
    }

    static void broadcast(Stage stage) throws Exception {
        String topic = stage.own("topic");
        String group = stage.own("group");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 4);
        stage.fill(producer, queues, 0, 4); // before a broadcasting consumer starts: its first offset
        Listener[] listeners = new Listener[2];
        for (int i = 0; i < 2; i++) {
            DefaultMQPushConsumer consumer = stage.pushConsumer(group);
            Compat.broadcasting(consumer);
            consumer.subscribe(topic, "*");
            listeners[i] = new Listener().listen(consumer);
            consumer.start();
        }
        stage.fill(producer, queues, 4, 36);
        for (int i = 0; i < 2; i++) {
            Listener listener = listeners[i];
            stage.until("40 messages", () -> listener.size() >= 40);
            listener.print(stage, "member " + i);
        }
    }

    static void tags(Stage stage) throws Exception {
        String topic = stage.own("topic");
        String group = stage.own("group");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 2);
        stage.fill(producer, queues, 0, 58); // both queues end with a wanted tag
        DefaultMQPushConsumer consumer = stage.pushConsumer(group);
        consumer.subscribe(topic, "tag0 || tag2");
        Listener listener = new Listener().listen(consumer);
        consumer.start();
        stage.until("39 of 58 messages", () -> listener.size() >= 39);
        stage.printCommitted(producer, group, queues, 58, consumer); // what was filtered out counts as consumed
        consumer.shutdown();
        listener.print(stage, "tag0 and tag2");
        stage.line("tags: %s", listener.received().stream().map(MessageExt::getTags).sorted().distinct().toList());

        DefaultMQPushConsumer narrower = stage.pushConsumer(stage.own("other-group"));
        narrower.subscribe(topic, "tag1");
        Listener one = new Listener().listen(narrower);
        narrower.start();
        stage.until("19 of 58 messages", () -> one.size() >= 19);
        one.print(stage, "tag1");
    }

    /** A new group that asks for the end of a young topic starts at its beginning all the same. */
    static void fromLast(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 2);
        stage.fill(producer, queues, 0, 10);
        for (ConsumeFromWhere where : List.of(ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, ConsumeFromWhere.CONSUME_FROM_TIMESTAMP)) {
            DefaultMQPushConsumer consumer = stage.pushConsumer(stage.own(where.name()));
            consumer.setConsumeFromWhere(where);
            consumer.subscribe(topic, "*");
            Listener listener = new Listener().listen(consumer);
            consumer.start();
            stage.until("10 messages", () -> listener.size() >= 10);
            consumer.shutdown();
            listener.print(stage, where.name());
        }
    }
}
