package scenarios;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** What a scenario has at hand: names of its own, clients that are closed at the end, and the transcript. */
final class Stage implements AutoCloseable {
    private static final AtomicInteger CLIENTS = new AtomicInteger();
    private static final Executor CLOSING = Executors.newCachedThreadPool();
    // A client that goes while it renews its queue locks leaves them locked for their life of a minute.
    private static final long PATIENCE_NS = 100_000_000_000L;

    private final String nameServers;
    private final String prefix;
    private final String name;
    private final StringBuilder text = new StringBuilder();
    private final Deque<Runnable> closers = new ArrayDeque<>();
    private boolean complete = true;

    Stage(Options options, String name) {
        this.nameServers = options.get("namesrv");
        this.prefix = options.get("prefix", "");
        this.name = name;
    }

    String name() {
        return name;
    }

    // ---- the transcript ------------------------------------------------------------------------------------------

    synchronized void line(String format, Object... values) {
        text.append(String.format(format, values)).append('\n');
    }

    synchronized void broken(Throwable e) {
        complete = false;
        StringWriter trace = new StringWriter();
        e.printStackTrace(new PrintWriter(trace));
        text.append("BROKEN ").append(trace);
    }

    boolean complete() {
        return complete;
    }

    /** Without what differs from run to run: our name prefix, addresses with their ports. */
    synchronized String transcript() {
        String plain = text.toString();
        if (!prefix.isEmpty()) {
            plain = plain.replace(prefix, "");
        }
        plain = plain.replaceAll("/?127\\.0\\.0\\.1:\\d+", "<address>");
        return "== " + name + "\n" + plain;
    }

    // ---- names and clients ---------------------------------------------------------------------------------------

    /** A topic or group name that no other scenario and no other run uses. */
    String own(String suffix) {
        return prefix + name + "-" + suffix;
    }

    <C extends ClientConfig> C settled(C client) {
        client.setNamesrvAddr(nameServers);
        client.setInstanceName(name + "-" + CLIENTS.incrementAndGet());
        client.setPollNameServerInterval(1000);
        client.setHeartbeatBrokerInterval(1000);
        client.setPersistConsumerOffsetInterval(500);
        return client;
    }

    void closeLater(Runnable close) {
        closers.push(close);
    }

    DefaultMQProducer producer() throws MQClientException {
        DefaultMQProducer producer = settled(new DefaultMQProducer(own("producer")));
        producer.start();
        closeLater(producer::shutdown);
        return producer;
    }

    /** Not started yet: the scenario subscribes and listens first. */
    DefaultMQPushConsumer pushConsumer(String group) {
        DefaultMQPushConsumer consumer = settled(new DefaultMQPushConsumer(group));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        closeLater(consumer::shutdown);
        return consumer;
    }

    DefaultMQPullConsumer pullConsumer(String group) throws MQClientException {
        DefaultMQPullConsumer consumer = settled(new DefaultMQPullConsumer(group));
        consumer.start();
        closeLater(consumer::shutdown);
        return consumer;
    }

    /** Does not wait: a 5.x client takes three seconds to stop. */
    @Override
    public void close() {
        closers.forEach(CLOSING::execute);
    }

    // ---- topics --------------------------------------------------------------------------------------------------

    /** Creates the topic and waits until clients see it. Returns its queues by id. */
    List<MessageQueue> newTopic(DefaultMQProducer producer, String topic, int queues) throws Exception {
        Compat.createTopic(producer, topic, queues);
        return queuesOf(producer, topic, queues);
    }

    List<MessageQueue> queuesOf(DefaultMQProducer producer, String topic, int queues) throws Exception {
        List<MessageQueue> found = new ArrayList<>();
        until("the route of " + topic, () -> {
            found.clear();
            try {
                found.addAll(producer.fetchPublishMessageQueues(topic));
            } catch (MQClientException notYet) {
                return false;
            }
            return found.size() == queues;
        });
        found.sort(Comparator.comparingInt(MessageQueue::getQueueId));
        return found;
    }

    Message message(String topic, int number) {
        return new Message(topic, "tag" + number % 3, "key-" + number, ("body " + number).getBytes(UTF_8));
    }

    /** Sends count messages, the n-th of them to queue n modulo queues. */
    void fill(DefaultMQProducer producer, List<MessageQueue> queues, int first, int count) throws Exception {
        for (int i = first; i < first + count; i++) {
            MessageQueue queue = queues.get(i % queues.size());
            producer.send(message(queue.getTopic(), i), queue);
        }
    }

    /** Everything in the topic, in order of queue and offset; waits until there are that many messages. */
    List<MessageExt> stored(String topic, int queues, int count) throws Exception {
        DefaultMQPullConsumer consumer = pullConsumer(own("reader-" + CLIENTS.incrementAndGet()));
        List<MessageQueue> all = new ArrayList<>();
        until("the queues of " + topic, () -> {
            all.clear();
            try {
                all.addAll(consumer.fetchSubscribeMessageQueues(topic));
            } catch (MQClientException notYet) {
                return false;
            }
            return all.size() == queues;
        });
        all.sort(Comparator.comparingInt(MessageQueue::getQueueId));
        until(count + " messages in " + topic, () -> {
            long sum = 0;
            for (MessageQueue queue : all) {
                sum += consumer.maxOffset(queue);
            }
            return sum >= count;
        });
        List<MessageExt> messages = new ArrayList<>();
        for (MessageQueue queue : all) {
            long next = consumer.minOffset(queue);
            long end = consumer.maxOffset(queue);
            while (next < end) {
                PullResult result = consumer.pull(queue, "*", next, 32);
                if (result.getMsgFoundList() != null) {
                    messages.addAll(result.getMsgFoundList());
                }
                next = result.getNextBeginOffset();
            }
        }
        return messages;
    }

    void printStored(String topic, int queues, int count) throws Exception {
        for (MessageExt message : stored(topic, queues, count)) {
            line("stored %s", describe(message));
        }
    }

    /**
     * Prints what the group has committed for each queue, once the broker knows the expected sum. The members are told
     * to commit: their timers begin only ten seconds after they start.
     */
    void printCommitted(DefaultMQProducer producer, String group, List<MessageQueue> queues, long expectedSum,
        DefaultMQPushConsumer... members) throws Exception {
        Map<Integer, Long> committed = new TreeMap<>();
        until("the committed offsets of " + group, () -> {
            for (DefaultMQPushConsumer member : members) {
                member.getDefaultMQPushConsumerImpl().persistConsumerOffset();
            }
            for (MessageQueue queue : queues) {
                committed.put(queue.getQueueId(), Compat.committed(producer, group, queue));
            }
            return committed.values().stream().mapToLong(Long::longValue).sum() >= expectedSum;
        });
        line("committed: %s", committed);
    }

    // ---- waiting -------------------------------------------------------------------------------------------------

    void until(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + PATIENCE_NS;
        while (!condition.call()) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("waited in vain for " + what);
            }
            Thread.sleep(20);
        }
    }

    // ---- wording -------------------------------------------------------------------------------------------------

    static String describe(SendResult result) {
        String ids = result.getOffsetMsgId();
        StringBuilder hosts = new StringBuilder();
        for (String id : ids == null ? new String[0] : ids.split(",")) {
            try {
                hosts.append(' ').append(MessageDecoder.decodeMessageId(id).getAddress());
            } catch (Exception e) {
                hosts.append(" undecodable ").append(id);
            }
        }
        return String.format("%s queue=%d offset=%d region=%s trace=%b transaction=%s ids=%d at%s",
            result.getSendStatus(), result.getMessageQueue().getQueueId(), result.getQueueOffset(), result.getRegionId(),
            result.isTraceOn(), result.getTransactionId() == null ? "none" : "some", result.getMsgId().split(",").length, hosts);
    }

    /** Everything of a received message that does not depend on when and where it was stored. */
    static String describe(MessageExt message) {
        return String.format("%s q%d@%d size=%d flag=%d sysFlag=%d reconsumed=%d prepared=%d born=%s host=%s body=%s %s",
            message.getTopic(), message.getQueueId(), message.getQueueOffset(), message.getStoreSize(), message.getFlag(),
            message.getSysFlag(), message.getReconsumeTimes(), message.getPreparedTransactionOffset(),
            message.getBornHost(), message.getStoreHost(), describe(message.getBody(), message.getBodyCRC()),
            describe(message.getProperties()));
    }

    private static String describe(byte[] body, int crc) {
        boolean sound = UtilAll.crc32(body) == crc;
        String shown = body.length > 60 ? body.length + " bytes" : new String(body, UTF_8);
        // The CRC is that of the stored, perhaps compressed, body: only compare where it is the body itself.
        return '"' + shown + '"' + (body.length > 60 || sound ? "" : " WRONG CRC");
    }

    static String describe(Map<String, String> properties) {
        Map<String, String> shown = new TreeMap<>(new HashMap<>(properties));
        shown.replaceAll((key, value) -> switch (key) {
            case "UNIQ_KEY", "ORIGIN_MESSAGE_ID", "DLQ_ORIGIN_MESSAGE_ID" -> "<id of " + value.length() + ">";
            case "CONSUME_START_TIME", "1ST_PULL_TIME" -> "<time>";
            // How far the queue had grown when the client pulled.
            case "MAX_OFFSET" -> "<offset>";
            default -> value;
        });
        return shown.toString();
    }

    /** An operation that must be refused: prints code and remark. */
    void refused(String what, Callable<?> operation) {
        try {
            line("%s: NOT REFUSED, %s", what, operation.call());
        } catch (Exception e) {
            line("%s: %s", what, refusal(e));
        }
    }

    static String refusal(Throwable e) {
        for (Throwable cause = e; cause != null; cause = cause.getCause()) {
            if (cause instanceof MQBrokerException refusal) {
                return "code " + refusal.getResponseCode() + ", " + refusal.getErrorMessage();
            }
        }
        if (e instanceof MQClientException refusal) {
            return "client code " + refusal.getResponseCode() + ", " + firstLine(refusal.getErrorMessage());
        }
        return e.getClass().getSimpleName() + ", " + firstLine(e.getMessage());
    }

    private static String firstLine(String message) {
        return message == null ? "no message" : message.lines().findFirst().orElse("");
    }
}
