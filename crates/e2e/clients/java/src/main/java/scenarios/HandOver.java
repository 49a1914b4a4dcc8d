package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.nio.file.StandardOpenOption.APPEND;
import static java.nio.file.StandardOpenOption.CREATE;

import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * One store, one broker after the other on it, and a stock client that remembers.
 *
 * <p>Each stage is a program of its own. It first looks for everything that the stages before left (messages at their
 * places, by key and by id, positions of groups, order, retries, delays), then leaves more. {@code --home} holds the
 * memory. Delays are those of {@link #LEVELS}, which both brokers are given.
 */
final class HandOver {
    static final int LAST = 4;
    private static final String PLAIN = "plain";
    private static final String ORDERED = "ordered";
    private static final String STUBBORN = "stubborn";
    private static final String LATE = "late";
    private static final String RETRYING = "retrying-group";
    private static final int QUEUES = 4;
    private static final int EACH = 24;
    private static final int STUBBORN_MESSAGES = 3;
    /** Milliseconds of delay levels 1 to 4. */
    private static final long[] LEVELS = {1_000, 8_000, 14_000, 20_000};
    /** Comes back when another broker has the store. */
    private static final int RETRY_LEVEL = 2;

    private final Stage stage;
    private final int number;
    private final Path home;
    private final PrintStream out;
    private final DefaultMQProducer producer;

    private HandOver(Options options, PrintStream out) throws Exception {
        this.stage = new Stage(options, "hand-over");
        this.number = Integer.parseInt(options.get("hand-over"));
        this.home = Path.of(options.get("home"));
        this.out = out;
        this.producer = stage.producer();
    }

    static void run(Options options, PrintStream out) throws Exception {
        if (options.has("read")) {
            read(options, out);
            return;
        }
        HandOver story = new HandOver(options, out);
        if (story.number == 0) {
            story.stage.newTopic(story.producer, PLAIN, QUEUES);
            for (String topic : List.of(ORDERED, STUBBORN, LATE)) {
                story.stage.newTopic(story.producer, topic, 1);
            }
        }
        story.everythingIsWhereItWas();
        story.queriesFindIt();
        story.send();
        story.sendDelayed();
        story.groupGoesOn();
        story.orderGoesOn();
        story.retriesGoOn();
        if (story.number == LAST) {
            story.delaysWereKept();
            story.stubbornOnesAreDead();
        }
    }

    /** Every message of a topic: queue, offset, CRC of the body. */
    private static void read(Options options, PrintStream out) throws Exception {
        Stage stage = new Stage(options, "read");
        String topic = options.get("read");
        int queues = stage.producer().fetchPublishMessageQueues(topic).size();
        for (MessageExt message : stage.stored(topic, queues, 0)) {
            out.printf("%d %d %08x%n", message.getQueueId(), message.getQueueOffset(), crc(message.getBody()));
        }
    }

    private static long crc(byte[] body) {
        var crc = new java.util.zip.CRC32();
        crc.update(body);
        return crc.getValue();
    }

    // ---- what the stages before left -------------------------------------------------------------------------------

    /** Queue, offset, CRC, broker's id, client's id, key of each message of the plain topic, as it was sent. */
    private List<String[]> sent() throws Exception {
        Path file = home.resolve("sent.txt");
        List<String[]> lines = new ArrayList<>();
        for (String line : Files.exists(file) ? Files.readAllLines(file) : List.<String>of()) {
            lines.add(line.split(" "));
        }
        return lines;
    }

    private void everythingIsWhereItWas() throws Exception {
        Map<String, MessageExt> found = new HashMap<>();
        List<String[]> sent = sent();
        for (MessageExt message : stage.stored(PLAIN, QUEUES, sent.size())) {
            found.put(message.getQueueId() + " " + message.getQueueOffset(), message);
        }
        for (String[] one : sent) {
            MessageExt message = found.remove(one[0] + " " + one[1]);
            check(message != null, "nothing at %s %s", one[0], one[1]);
            check(String.format("%08x", crc(message.getBody())).equals(one[2]), "another body at %s %s", one[0], one[1]);
            check(one[5].equals(message.getKeys()), "key %s at %s %s", message.getKeys(), one[0], one[1]);
        }
        check(found.isEmpty(), "never sent: %s", found);
        out.println("found " + sent.size());
    }

    private void queriesFindIt() throws Exception {
        List<String[]> sent = sent();
        for (int i = 0; i < sent.size(); i += 7) {
            String[] one = sent.get(i);
            MessageExt byId = producer.viewMessage(PLAIN, one[3]);
            check(one[5].equals(byId.getKeys()), "%s by its place is %s", one[5], byId.getKeys());
            stage.until("the key " + one[5], () -> {
                try {
                    QueryResult result = producer.queryMessage(PLAIN, one[5], 32, 0, Long.MAX_VALUE);
                    return result.getMessageList().stream().anyMatch(m -> one[5].equals(m.getKeys()));
                } catch (MQClientException notYet) {
                    return false;
                }
            });
            stage.until("the client's id " + one[4], () -> {
                try {
                    return one[5].equals(producer.getDefaultMQProducerImpl().queryMessageByUniqKey(PLAIN, one[4]).getKeys());
                } catch (MQClientException notYet) {
                    return false;
                }
            });
        }
    }

    // ---- more ------------------------------------------------------------------------------------------------------

    private void send() throws Exception {
        List<MessageQueue> queues = stage.queuesOf(producer, PLAIN, QUEUES);
        for (int i = 0; i < EACH; i++) {
            String key = "s" + number + "-" + i;
            // Every eighth is so large that the client compresses it.
            String body = key + (i % 8 == 7 ? " large".repeat(2_000) : " body");
            remember(producer.send(new Message(PLAIN, "tag" + i % 3, key, body.getBytes(UTF_8)), queues.get(i % QUEUES)), key, body);
        }
        List<Message> batch = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            String key = "b" + number + "-" + i;
            batch.add(new Message(PLAIN, "tag", key, (key + " in a batch").getBytes(UTF_8)));
        }
        SendResult result = producer.send(batch, queues.get(1));
        check(result.getSendStatus() == SendStatus.SEND_OK, "%s", result);
        String[] places = result.getOffsetMsgId().split(",");
        String[] ids = result.getMsgId().split(",");
        for (int i = 0; i < 5; i++) {
            note("sent.txt", String.format("%d %d %08x %s %s %s", 1, result.getQueueOffset() + i,
                crc(batch.get(i).getBody()), places[i], ids[i], batch.get(i).getKeys()));
        }
        MessageQueue ordered = stage.queuesOf(producer, ORDERED, 1).get(0);
        for (int i = 0; i < 10; i++) {
            producer.send(new Message(ORDERED, String.valueOf(number * 10 + i).getBytes(UTF_8)), ordered);
        }
        if (number == 0) {
            for (int i = 0; i < STUBBORN_MESSAGES; i++) {
                producer.send(new Message(STUBBORN, "t", "stubborn-" + i, ("stubborn " + i).getBytes(UTF_8)));
            }
        }
    }

    private void remember(SendResult result, String key, String body) throws Exception {
        check(result.getSendStatus() == SendStatus.SEND_OK, "%s", result);
        note("sent.txt", String.format("%d %d %08x %s %s %s", result.getMessageQueue().getQueueId(), result.getQueueOffset(),
            crc(body.getBytes(UTF_8)), result.getOffsetMsgId(), result.getMsgId(), key));
    }

    /** One of each level, so that some are pending at every change of brokers. */
    private void sendDelayed() throws Exception {
        if (number == LAST) {
            return;
        }
        for (int level = 1; level <= LEVELS.length; level++) {
            String key = "d" + number + "-" + level;
            Message message = new Message(LATE, "t", key, key.getBytes(UTF_8));
            message.setDelayTimeLevel(level);
            long now = System.currentTimeMillis();
            check(producer.send(message).getSendStatus() == SendStatus.SEND_OK, "%s", key);
            note("late.txt", key + " " + (now + LEVELS[level - 1]));
        }
    }

    /** The group gets what this stage sent, and of what it has had before nothing. */
    private void groupGoesOn() throws Exception {
        Set<String> expected = new HashSet<>();
        for (String[] one : sent()) {
            if (one[5].substring(1).startsWith(number + "-")) {
                expected.add(one[5]);
            }
        }
        ConcurrentLinkedQueue<String> got = new ConcurrentLinkedQueue<>();
        DefaultMQPushConsumer consumer = stage.pushConsumer("going-on");
        consumer.subscribe(PLAIN, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(m -> got.add(m.getKeys()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        stage.until("the group's messages", () -> got.containsAll(expected));
        settle("going-on", PLAIN, QUEUES, consumer);
        consumer.shutdown();
        check(got.size() == expected.size(), "the group got %s, not %s", new java.util.TreeSet<>(got), expected);
    }

    private void orderGoesOn() throws Exception {
        ConcurrentLinkedQueue<Integer> got = new ConcurrentLinkedQueue<>();
        DefaultMQPushConsumer consumer = stage.pushConsumer("ordered-group");
        consumer.subscribe(ORDERED, "*");
        consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
            messages.forEach(m -> got.add(Integer.valueOf(new String(m.getBody(), UTF_8))));
            return ConsumeOrderlyStatus.SUCCESS;
        });
        consumer.start();
        stage.until("the ordered messages", () -> got.size() >= 10);
        settle("ordered-group", ORDERED, 1, consumer);
        consumer.shutdown();
        List<Integer> expected = new ArrayList<>();
        for (int i = 0; i < 10; i++) {
            expected.add(number * 10 + i);
        }
        check(List.copyOf(got).equals(expected), "in order came %s, not %s", got, expected);
    }

    /** A group that takes nothing: in stage n each message has been refused n times, whoever counted. */
    private void retriesGoOn() throws Exception {
        if (number == LAST) {
            return;
        }
        Map<String, Integer> tries = new ConcurrentHashMap<>();
        DefaultMQPushConsumer consumer = stage.pushConsumer(RETRYING);
        consumer.setMaxReconsumeTimes(LAST - 1);
        // In order: the first copy of a message is the one that is answered.
        consumer.setConsumeThreadMin(1);
        consumer.setConsumeThreadMax(1);
        consumer.subscribe(STUBBORN, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            MessageExt message = messages.get(0);
            if (tries.putIfAbsent(new String(message.getBody(), UTF_8), message.getReconsumeTimes()) != null) {
                // Came back before this stage was over: for the next one to take, so it is not answered.
                while (true) {
                    LockSupport.park(tries);
                    Thread.interrupted(); // the consumer's end
                }
            }
            context.setDelayLevelWhenNextConsume(RETRY_LEVEL);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        consumer.start();
        stage.until("try " + number, () -> tries.size() == STUBBORN_MESSAGES);
        if (number == LAST - 1) {
            stage.stored("%DLQ%" + RETRYING, 1, STUBBORN_MESSAGES);
        }
        MessageQueue last = stage.queuesOf(producer, STUBBORN, 1).get(0);
        MessageQueue answered = number == 0 ? last : new MessageQueue("%RETRY%" + RETRYING, last.getBrokerName(), 0);
        stage.until("the answers", () -> {
            consumer.getDefaultMQPushConsumerImpl().persistConsumerOffset();
            return Compat.committed(producer, RETRYING, answered) >= Math.max(1, number) * STUBBORN_MESSAGES;
        });
        consumer.shutdown();
        for (Map.Entry<String, Integer> one : tries.entrySet()) {
            check(one.getValue() == number, "%s was refused %d times before, not %d", one.getKey(), one.getValue(), number);
        }
    }

    /** Waits until the broker knows that the group has had everything. */
    private void settle(String group, String topic, int queues, DefaultMQPushConsumer member) throws Exception {
        DefaultMQPullConsumer positions = stage.pullConsumer(stage.own("positions-" + group + number));
        List<MessageQueue> all = new ArrayList<>();
        stage.until("the queues of " + topic, () -> {
            all.clear();
            all.addAll(positions.fetchSubscribeMessageQueues(topic));
            return all.size() == queues;
        });
        stage.until("the positions of " + group, () -> {
            member.getDefaultMQPushConsumerImpl().persistConsumerOffset();
            for (MessageQueue queue : all) {
                if (Compat.committed(producer, group, queue) < positions.maxOffset(queue)) {
                    return false;
                }
            }
            return true;
        });
    }

    // ---- at the end ------------------------------------------------------------------------------------------------

    private void delaysWereKept() throws Exception {
        Map<String, Long> due = new TreeMap<>();
        for (String line : Files.readAllLines(home.resolve("late.txt"))) {
            due.put(line.split(" ")[0], Long.valueOf(line.split(" ")[1]));
        }
        List<MessageExt> came = new ArrayList<>();
        stage.until("all delayed messages", () -> {
            came.clear();
            came.addAll(stage.stored(LATE, 1, due.size()));
            return came.stream().map(MessageExt::getKeys).distinct().count() == due.size();
        });
        Set<String> keys = new HashSet<>();
        for (MessageExt message : came) {
            keys.add(message.getKeys());
            Long at = due.get(message.getKeys());
            check(at != null, "never sent: %s", message);
            check(message.getStoreTimestamp() >= at, "%s came %d ms early", message.getKeys(), at - message.getStoreTimestamp());
            out.printf("came %s %d %d%n", message.getKeys(), at, message.getStoreTimestamp());
        }
        check(keys.equals(due.keySet()), "delayed messages came: %s", keys);
    }

    private void stubbornOnesAreDead() throws Exception {
        Set<String> dead = new HashSet<>();
        for (MessageExt message : stage.stored("%DLQ%" + RETRYING, 1, STUBBORN_MESSAGES)) {
            check(dead.add(new String(message.getBody(), UTF_8)), "twice dead: %s", message);
            check(STUBBORN.equals(message.getProperty("RETRY_TOPIC")), "dead: %s", message);
        }
        check(dead.size() == STUBBORN_MESSAGES, "dead: %s", dead);
    }

    private void note(String file, String line) throws Exception {
        Files.writeString(home.resolve(file), line + "\n", CREATE, APPEND);
    }

    private static void check(boolean holds, String format, Object... values) {
        if (!holds) {
            throw new IllegalStateException(String.format(format, values));
        }
    }
}
