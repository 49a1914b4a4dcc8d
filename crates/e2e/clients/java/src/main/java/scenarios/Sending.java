package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Every way a producer has to send, and what lies in the queues afterwards. */
final class Sending {
    private Sending() {
    }

    static void sync(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 4);
        for (int i = 0; i < 12; i++) {
            Message message = stage.message(topic, i);
            message.setFlag(i);
            message.putUserProperty("shade", "grün " + i);
            message.setWaitStoreMsgOK(i % 2 == 0);
            stage.line("sent %d: %s", i, Stage.describe(producer.send(message, queues.get(i % 4))));
        }
        Message bare = new Message(topic, "no tag, no key, 漢字 ✓".getBytes(UTF_8));
        stage.line("sent bare: %s", Stage.describe(producer.send(bare, queues.get(3))));
        stage.printStored(topic, 4, 13);
    }

    static void async(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 4);
        Map<Integer, String> answers = new ConcurrentHashMap<>();
        for (int i = 0; i < 20; i++) {
            int number = i;
            producer.send(stage.message(topic, i), queues.get(i % 4), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    answers.put(number, result.getSendStatus() + " queue=" + result.getMessageQueue().getQueueId());
                }

                @Override
                public void onException(Throwable e) {
                    answers.put(number, Stage.refusal(e));
                }
            });
        }
        stage.until("20 callbacks", () -> answers.size() == 20);
        new TreeMap<>(answers).forEach((number, answer) -> stage.line("answer %d: %s", number, answer));
        // Sends in flight at a time may be stored in any order.
        stage.stored(topic, 4, 20).stream()
            .map(m -> "queue " + m.getQueueId() + " holds " + new String(m.getBody(), UTF_8)).sorted().forEach(stage::line);
    }

    static void oneWay(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 2);
        for (int i = 0; i < 10; i++) {
            producer.sendOneway(stage.message(topic, i), queues.get(i % 2));
        }
        stage.stored(topic, 2, 10).stream()
            .map(m -> "queue " + m.getQueueId() + " holds " + new String(m.getBody(), UTF_8)).sorted().forEach(stage::line);
    }

    static void batch(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 2);
        for (int round = 0; round < 3; round++) {
            List<Message> messages = new ArrayList<>();
            for (int i = 0; i < 5; i++) {
                Message message = stage.message(topic, round * 5 + i);
                message.setFlag(i);
                messages.add(message);
            }
            stage.line("batch %d: %s", round, Stage.describe(producer.send(messages, queues.get(round % 2))));
        }
        stage.line("single: %s", Stage.describe(producer.send(stage.message(topic, 99), queues.get(0))));
        stage.printStored(topic, 2, 16);
    }

    static void compressed(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 1);
        for (int size : new int[] {4095, 4096, 100_000, 3_000_000}) {
            Message message = new Message(topic, "zip", "zip-" + size, "gantry".repeat(size / 6 + 1).substring(0, size).getBytes(UTF_8));
            stage.line("sent %d: %s", size, Stage.describe(producer.send(message, queues.get(0))));
        }
        stage.printStored(topic, 1, 4);
    }

    /** A topic nobody created: the first send makes it, with the queues that the producer asks for. */
    static void createsTopic(Stage stage) throws Exception {
        DefaultMQProducer producer = stage.producer();
        for (int wanted : new int[] {4, 3, 100}) {
            String topic = stage.own("wants-" + wanted);
            producer.setDefaultTopicQueueNums(wanted);
            stage.line("first send: %s", producer.send(stage.message(topic, 0)).getSendStatus());
            int expected = Math.min(wanted, 8);
            stage.line("%d wanted, queues: %d", wanted, stage.queuesOf(producer, topic, expected).size());
        }
    }
}
