package scenarios;

import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;

/** The pull consumer: every status of a pull, and a pull that waits. */
final class Pulling {
    private Pulling() {
    }

    static void pull(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 2);
        MessageQueue queue = queues.get(0);
        MessageQueue empty = queues.get(1);
        for (int i = 0; i < 50; i++) {
            producer.send(stage.message(topic, i), queue);
        }
        stage.stored(topic, 2, 50);
        DefaultMQPullConsumer consumer = stage.pullConsumer(stage.own("group"));
        consumer.setConsumerPullTimeoutMillis(10_000);
        stage.line("queues: %s", consumer.fetchSubscribeMessageQueues(topic).stream().map(MessageQueue::getQueueId).sorted().toList());
        stage.line("10 from 0: %s", describe(consumer.pull(queue, "*", 0, 10)));
        stage.line("32 from 10: %s", describe(consumer.pull(queue, "*", 10, 32)));
        stage.line("100 from 0: %s", describe(consumer.pull(queue, "*", 0, 100)));
        stage.line("32 from 49: %s", describe(consumer.pull(queue, "*", 49, 32)));
        stage.line("at the end: %s", describe(consumer.pull(queue, "*", 50, 32)));
        stage.line("beyond by one: %s", describe(consumer.pull(queue, "*", 51, 32)));
        stage.line("far beyond: %s", describe(consumer.pull(queue, "*", 5000, 32)));
        stage.line("empty queue at 0: %s", describe(consumer.pull(empty, "*", 0, 32)));
        stage.line("empty queue at 7: %s", describe(consumer.pull(empty, "*", 7, 32)));
        stage.line("one tag: %s", describe(consumer.pull(queue, "tag1", 0, 32)));
        stage.line("two tags: %s", describe(consumer.pull(queue, "tag1 || tag2", 0, 32)));
        stage.line("no such tag: %s", describe(consumer.pull(queue, "nothing", 0, 32)));
        for (int i = 0; i < 2; i++) {
            stage.line("message: %s", Stage.describe(consumer.pull(queue, "*", i, 1).getMsgFoundList().get(0)));
        }
    }

    static void waitsForTheNextMessage(Stage stage) throws Exception {
        String topic = stage.own("topic");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 1);
        MessageQueue queue = queues.get(0);
        DefaultMQPullConsumer consumer = stage.pullConsumer(stage.own("group"));
        consumer.setBrokerSuspendMaxTimeMillis(20_000);
        for (int i = 0; i < 3; i++) {
            long offset = i;
            CompletableFuture<PullResult> pull = CompletableFuture.supplyAsync(() -> {
                try {
                    return consumer.pullBlockIfNotFound(queue, "*", offset, 32);
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            });
            // Long enough for the pull to be parked; the transcript is the same if it is not.
            try {
                pull.get(300, TimeUnit.MILLISECONDS);
                stage.line("pull %d: answered though there was nothing", i);
            } catch (java.util.concurrent.TimeoutException parked) {
                stage.line("pull %d: parked", i);
            }
            long sent = System.nanoTime();
            producer.send(stage.message(topic, i), queue);
            PullResult result = pull.get(30, TimeUnit.SECONDS);
            // The broker looks by itself every 5 s: a wake within 4 is due to the arrival.
            stage.line("woken by the arrival: %b, %s", System.nanoTime() - sent < 4_000_000_000L, describe(result));
        }

        consumer.setBrokerSuspendMaxTimeMillis(1000);
        stage.line("nothing came: %s", describe(consumer.pullBlockIfNotFound(queue, "*", 3, 32)));
    }

    private static String describe(PullResult result) {
        int found = result.getMsgFoundList() == null ? 0 : result.getMsgFoundList().size();
        return String.format("%s next=%d min=%d max=%d messages=%d", result.getPullStatus(), result.getNextBeginOffset(),
            result.getMinOffset(), result.getMaxOffset(), found);
    }
}
