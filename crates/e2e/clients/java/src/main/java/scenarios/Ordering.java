package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.Collections;
import java.util.List;
import java.util.ArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.MessageQueue;

/** Ordered consumption: queue locks, order within a queue, waiting at a message that fails. */
final class Ordering {
    private Ordering() {
    }

    static void ordered(Stage stage) throws Exception {
        String topic = stage.own("topic");
        String group = stage.own("group");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 4);
        for (int i = 0; i < 60; i++) {
            producer.send(stage.message(topic, i), new SelectMessageQueueByHash(), "order-" + i % 7);
        }
        DefaultMQPushConsumer consumer = stage.pushConsumer(group);
        consumer.subscribe(topic, "*");
        Listener listener = new Listener().listenOrderly(consumer);
        consumer.start();
        stage.until("60 messages", () -> listener.size() >= 60);
        listener.print(stage, "consumer");
        listener.printOrder(stage, "consumer");
        stage.printCommitted(producer, group, queues, 60, consumer);
        consumer.shutdown();
    }

    /** The third message fails twice: nothing behind it in its queue is delivered before it is through. */
    static void suspended(Stage stage) throws Exception {
        String topic = stage.own("topic");
        String group = stage.own("group");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 1);
        stage.fill(producer, queues, 0, 6);
        List<String> tries = Collections.synchronizedList(new ArrayList<>());
        AtomicInteger failures = new AtomicInteger();
        DefaultMQPushConsumer consumer = stage.pushConsumer(group);
        consumer.setSuspendCurrentQueueTimeMillis(50);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            String body = new String(messages.get(0).getBody(), UTF_8);
            tries.add(body + " reconsumed " + messages.get(0).getReconsumeTimes());
            if (body.equals("body 2") && failures.incrementAndGet() <= 2) {
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        stage.until("8 tries", () -> tries.size() >= 8);
        stage.printCommitted(producer, group, queues, 6, consumer);
        consumer.shutdown();
        tries.forEach(line -> stage.line("%s", line));
    }
}
