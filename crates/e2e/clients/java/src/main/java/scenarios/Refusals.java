package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** What a broker refuses, with the code and the words that programs and people look at. */
final class Refusals {
    private Refusals() {
    }

    static void refused(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        producer.setMaxMessageSize(8 << 20); // the broker's limit, not the client's
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        List<MessageQueue> queues = stage.newTopic(producer, topic, 2);
        MessageQueue queue = queues.get(0);
        MessageQueue none = new MessageQueue(topic, queue.getBrokerName(), 9);

        stage.refused("send to queue 9 of 2", () -> producer.send(stage.message(topic, 0), none));
        stage.refused("body of 5 MiB", () -> producer.send(new Message(topic, new byte[5 << 20]), queue));
        Message wordy = stage.message(topic, 0);
        wordy.putUserProperty("long", "x".repeat(40_000));
        stage.refused("property of 40 000 characters", () -> producer.send(wordy, queue));
        MessageQueue unknown = new MessageQueue(stage.own("unknown"), queue.getBrokerName(), 0);
        stage.line("send to an unknown topic's queue: %s", sendToUnknown(producer, unknown));

        DefaultMQPullConsumer consumer = stage.pullConsumer(stage.own("group"));
        stage.refused("pull from queue 9 of 2", () -> consumer.pull(none, "*", 0, 1));
        MessageQueue missing = new MessageQueue(stage.own("missing"), queue.getBrokerName(), 0);
        stage.refused("pull from an unknown topic", () -> consumer.pull(missing, "*", 0, 1));
        stage.refused("route of an unknown topic", () -> consumer.fetchSubscribeMessageQueues(stage.own("nowhere")));
        // The client itself refuses as long as it has no heartbeat's answer, which tells the broker's version.
        stage.until("the broker's version", () -> !bySql(consumer, queue).contains("does not upgrade"));
        stage.line("SQL filter while it is off: %s", bySql(consumer, queue));
        producer.send(stage.message(topic, 1), queue);
        stage.line("served afterwards: %s", consumer.pullBlockIfNotFound(queue, "*", 0, 1).getPullStatus());
    }

    private static String bySql(DefaultMQPullConsumer consumer, MessageQueue queue) {
        try {
            return consumer.pull(queue, MessageSelector.bySql("a > 1"), 0, 1).getPullStatus() + ", NOT REFUSED";
        } catch (Exception e) {
            return Stage.refusal(e);
        }
    }

    /** The broker creates it from its template, as for any send. */
    private static String sendToUnknown(DefaultMQProducer producer, MessageQueue queue) {
        try {
            return producer.send(new Message(queue.getTopic(), "x".getBytes(UTF_8)), queue).getSendStatus().toString();
        } catch (Exception e) {
            return Stage.refusal(e);
        }
    }

    /** The servers run with {@code rejectTransactionMessage=true}. */
    static void transaction(Stage stage) throws Exception {
        String topic = stage.own("topic");
        List<MessageQueue> queues = stage.newTopic(stage.producer(), topic, 1);
        TransactionMQProducer producer = stage.settled(new TransactionMQProducer(stage.own("transactions")));
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                stage.line("the local transaction ran");
                return LocalTransactionState.COMMIT_MESSAGE;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return LocalTransactionState.UNKNOW;
            }
        });
        producer.start();
        stage.closeLater(producer::shutdown);
        stage.refused("transaction", () -> producer.sendMessageInTransaction(stage.message(topic, 0), null));
        DefaultMQPullConsumer consumer = stage.pullConsumer(stage.own("group"));
        stage.line("stored: %d", consumer.maxOffset(queues.get(0)));
    }
}
