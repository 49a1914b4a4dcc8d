package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.Map;
import java.util.List;
import java.util.concurrent.ConcurrentSkipListMap;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Delay levels. The servers run with {@code messageDelayLevel=1s 2s 1s 1s ...}: 18 levels, all of one second but the
 * second.
 */
final class Delaying {
    private Delaying() {
    }

    static void levels(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 6);
        int[] levels = {0, 1, 2, 5, 18, 99};
        for (int i = 0; i < levels.length; i++) {
            Message message = stage.message(topic, i);
            message.setBody(("level " + levels[i]).getBytes(UTF_8));
            message.setDelayTimeLevel(levels[i]);
            message.setFlag(i);
            stage.line("sent: %s", producer.send(message, queues.get(i)).getSendStatus());
        }
        Map<String, String> arrivals = new ConcurrentSkipListMap<>();
        DefaultMQPushConsumer consumer = stage.pushConsumer(stage.own("group"));
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            MessageExt message = messages.get(0);
            String body = new String(message.getBody(), UTF_8);
            long due = switch (body) {
                case "level 0" -> 0;
                case "level 2" -> 2000;
                default -> 1000;
            };
            long waited = message.getStoreTimestamp() - message.getBornTimestamp();
            String when = waited < due ? "TOO EARLY" : waited > due + 5000 ? "TOO LATE" : "on time";
            arrivals.put(body, when + " " + Stage.describe(message));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        stage.until("all levels", () -> arrivals.size() == levels.length);
        arrivals.forEach((body, arrival) -> stage.line("%s: %s", body, arrival));
    }
}
