package scenarios;

import java.util.List;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Two consumers of one group: they share the queues, and when one goes the other takes over.
 */
final class Sharing {
    private Sharing() {
    }

    static void concurrently(Stage stage) throws Exception {
        play(stage, false);
    }

    static void orderly(Stage stage) throws Exception {
        play(stage, true);
    }

    private static void play(Stage stage, boolean orderly) throws Exception {
        String topic = stage.own("topic");
        String group = stage.own("group");
        DefaultMQProducer producer = stage.producer();
        List<MessageQueue> queues = stage.newTopic(producer, topic, 4);
        DefaultMQPushConsumer[] members = new DefaultMQPushConsumer[2];
        Listener[] listeners = new Listener[2];
        for (int i = 0; i < 2; i++) {
            members[i] = stage.pushConsumer(group);
            members[i].subscribe(topic, "*");
            listeners[i] = orderly ? new Listener().listenOrderly(members[i]) : new Listener().listen(members[i]);
            members[i].start();
            DefaultMQPushConsumer first = members[0];
            if (i == 0) {
                stage.until("all queues at the first member", () -> Listener.queuesHeld(first, topic).size() == 4);
            }
        }

        stage.until("two queues each", () -> Listener.queuesHeld(members[0], topic).size() == 2
            && Listener.queuesHeld(members[1], topic).size() == 2);
        TreeSet<Integer> union = Listener.queuesHeld(members[0], topic);
        union.addAll(Listener.queuesHeld(members[1], topic));
        stage.line("together they hold %s", union);

        stage.fill(producer, queues, 0, 80);
        stage.until("80 messages", () -> listeners[0].size() + listeners[1].size() >= 80);
        stage.line("members got %d and %d", listeners[0].size(), listeners[1].size());

        // Else the member that stays would begin at an older offset and see messages twice, as it may.
        stage.printCommitted(producer, group, queues, 80, members);
        members[1].shutdown();
        stage.until("all queues at the member that stays", () -> Listener.queuesHeld(members[0], topic).size() == 4);

        stage.fill(producer, queues, 80, 40);
        stage.until("120 messages", () -> listeners[0].size() + listeners[1].size() >= 120);
        var all = listeners[0].received();
        all.addAll(listeners[1].received());
        Listener.print(stage, "both", all);
        if (orderly) {
            listeners[0].received().stream()
                .collect(Collectors.groupingBy(MessageExt::getQueueId, TreeMap::new, Collectors.mapping(MessageExt::getQueueOffset, Collectors.toList())))
                .forEach((queue, offsets) -> stage.line("queue %d ascending: %b", queue, offsets.equals(offsets.stream().sorted().toList())));
        }
        stage.printCommitted(producer, group, queues, 120, members[0]);
        members[0].shutdown();
    }
}
