package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** A message that a consumer does not take comes back later, and ends in the dead-letter topic of the group. */
final class Retrying {
    private Retrying() {
    }

    static void ladder(Stage stage) throws Exception {
        String topic = stage.own("topic");
        String group = stage.own("group");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 1);
        for (String story : List.of("taken at once", "fails once", "fails always", "dead at once", "level 2")) {
            Message message = new Message(topic, "tag", story.replace(' ', '-'), story.getBytes(UTF_8));
            message.putUserProperty("shade", "blue");
            message.setFlag(7);
            producer.send(message, queues.get(0));
        }
        Map<String, List<String>> tries = new ConcurrentSkipListMap<>();
        DefaultMQPushConsumer consumer = stage.pushConsumer(group);
        consumer.setMaxReconsumeTimes(3);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            MessageExt message = messages.get(0);
            String story = new String(message.getBody(), UTF_8);
            tries.computeIfAbsent(story, s -> new CopyOnWriteArrayList<>()).add(Stage.describe(message));
            int before = message.getReconsumeTimes();
            if (story.equals("dead at once")) {
                context.setDelayLevelWhenNextConsume(-1);
            } else if (story.equals("level 2")) {
                context.setDelayLevelWhenNextConsume(2);
            }
            boolean fails = switch (story) {
                case "fails once", "level 2" -> before == 0;
                case "fails always", "dead at once" -> true;
                default -> false;
            };
            return fails ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        stage.until("all tries", () -> tries.values().stream().mapToInt(List::size).sum() >= 1 + 2 + 4 + 1 + 2);
        List<MessageExt> dead = new ArrayList<>(stage.stored("%DLQ%" + group, 1, 2));
        stage.printCommitted(producer, group, queues, 5, consumer);
        consumer.shutdown();
        // How far apart the tries of different messages are is chance, so are their offsets in the retry topic.
        tries.forEach((story, list) -> list.forEach(line -> stage.line("try of \"%s\": %s", story, withoutOffsets(line))));
        dead.stream().map(m -> withoutOffsets(Stage.describe(m))).sorted().forEach(line -> stage.line("dead: %s", line));
        stage.stored("%RETRY%" + group, 1, 5).stream().map(m -> withoutOffsets(Stage.describe(m))).sorted()
            .forEach(line -> stage.line("retry topic: %s", line));
    }

    /** A listener that throws is as good as one that says RECONSUME_LATER. */
    static void listenerThrows(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 1);
        stage.fill(producer, queues, 0, 3);
        Map<String, Integer> tries = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = stage.pushConsumer(stage.own("group"));
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            String body = new String(messages.get(0).getBody(), UTF_8);
            if (tries.merge(body, 1, Integer::sum) == 1) {
                throw new IllegalStateException("as the story wants it");
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        stage.until("two tries each", () -> tries.size() == 3 && tries.values().stream().allMatch(n -> n == 2));
        stage.line("tries: %s", new java.util.TreeMap<>(tries));
    }

    /** The same request without a push consumer around it. */
    static void sendBackByHand(Stage stage) throws Exception {
        String topic = stage.own("topic");
        String group = stage.own("group");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 1);
        stage.fill(producer, queues, 0, 2);
        stage.stored(topic, 1, 2);
        DefaultMQPullConsumer consumer = stage.pullConsumer(group);
        // By pulling it learns where the broker is; without that it would send to the retry topic by itself.
        List<MessageExt> messages = consumer.pull(queues.get(0), "*", 0, 32).getMsgFoundList();
        String broker = queues.get(0).getBrokerName();
        consumer.sendMessageBack(messages.get(0), 1, broker);
        stage.printStored("%RETRY%" + group, 1, 1);
        consumer.sendMessageBack(messages.get(1), -1, broker);
        stage.printStored("%DLQ%" + group, 1, 1);
    }

    private static String withoutOffsets(String described) {
        return described.replaceAll("@\\d+ ", "@n ");
    }
}
