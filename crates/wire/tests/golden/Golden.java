import com.alibaba.fastjson.JSON;
import com.alibaba.fastjson.serializer.SerializerFeature;
import java.io.*;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;
import java.util.jar.*;
import java.lang.reflect.*;
import org.apache.rocketmq.broker.offset.ConsumerOffsetManager;
import org.apache.rocketmq.broker.subscription.SubscriptionGroupManager;
import org.apache.rocketmq.common.*;
import org.apache.rocketmq.common.admin.*;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.*;
import org.apache.rocketmq.common.protocol.*;
import org.apache.rocketmq.common.protocol.body.*;
import org.apache.rocketmq.common.protocol.header.*;
import org.apache.rocketmq.common.protocol.header.namesrv.*;
import org.apache.rocketmq.common.protocol.heartbeat.*;
import org.apache.rocketmq.common.protocol.route.*;
import org.apache.rocketmq.common.protocol.topic.OffsetMovedEvent;
import org.apache.rocketmq.common.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.namesrv.kvconfig.KVConfigSerializeWrapper;
import org.apache.rocketmq.remoting.*;
import org.apache.rocketmq.remoting.protocol.*;
import org.apache.rocketmq.store.schedule.DelayOffsetSerializeWrapper;

/** Prints what RocketMQ's own classes write, for the tests of this folder. See README.md. */
public final class Golden {
    static final StringBuilder BODIES = new StringBuilder();
    static Path dir;

    static void body(String name, Object value) {
        BODIES.append(name).append('\t').append(RemotingSerializable.toJson(value, false)).append('\n');
    }

    static void file(String name, String text) throws IOException {
        Files.write(dir.resolve(name), text.getBytes(StandardCharsets.UTF_8));
    }

    static String hex(byte[] bytes) {
        StringBuilder s = new StringBuilder();
        for (byte b : bytes) s.append(String.format("%02x", b));
        return s.toString();
    }

    static String frame(RemotingCommand command, byte[] body) {
        command.setBody(body);
        ByteBuffer b = command.encode();
        byte[] bytes = new byte[b.remaining()];
        b.get(bytes);
        return hex(bytes);
    }

    static MessageQueue mq(int id) {
        return new MessageQueue("TopicA", "broker-a", id);
    }

    static SubscriptionData sub() {
        SubscriptionData s = new SubscriptionData("TopicA", "TagA || TagB");
        s.setTagsSet(new TreeSet<>(Arrays.asList("TagA", "TagB")));
        s.setCodeSet(new TreeSet<>(Arrays.asList(2598919, 2598920)));
        s.setSubVersion(1700000000000L);
        s.setClassFilterMode(true);
        s.setExpressionType("SQL92");
        return s;
    }

    static DataVersion version() {
        DataVersion v = new DataVersion();
        v.setTimestamp(1700000000000L);
        v.setCounter(new AtomicLong(7));
        return v;
    }

    static TopicConfigSerializeWrapper topics() {
        TopicConfig a = new TopicConfig("A", 5, 7, 4);
        a.setOrder(true);
        a.setTopicSysFlag(3);
        a.setTopicFilterType(TopicFilterType.MULTI_TAG);
        ConcurrentMap<String, TopicConfig> t = new ConcurrentHashMap<>();
        t.put("A", a);
        t.put("B", new TopicConfig("B"));
        TopicConfigSerializeWrapper w = new TopicConfigSerializeWrapper();
        w.setDataVersion(version());
        w.setTopicConfigTable(t);
        return w;
    }

    static Connection connection() {
        Connection c = new Connection();
        c.setClientId("10.0.0.9@1");
        c.setClientAddr("10.0.0.9:5555");
        c.setLanguage(LanguageCode.GO);
        c.setVersion(317);
        return c;
    }

    static void bodies() throws Exception {
        body("MessageQueue", mq(3));
        body("DataVersion", version());
        KVTable kv = new KVTable();
        kv.getTable().put("key", "value \"1\"\n");
        body("KVTable", kv);
        TopicList tl = new TopicList();
        tl.setBrokerAddr("10.0.0.1:10911");
        tl.setTopicList(new LinkedHashSet<>(Arrays.asList("TopicB", "TopicA")));
        body("TopicList", tl);
        tl.setBrokerAddr(null);
        body("TopicList", tl);
        GroupList gl = new GroupList();
        gl.setGroupList(new HashSet<>(Arrays.asList("GroupA")));
        body("GroupList", gl);

        body("TopicConfigSerializeWrapper", topics());
        SubscriptionGroupConfig g = new SubscriptionGroupConfig();
        g.setGroupName("GroupA");
        body("SubscriptionGroupConfig", g);
        SubscriptionGroupConfig g2 = new SubscriptionGroupConfig();
        g2.setGroupName("GroupB");
        g2.setBrokerId(2);
        g2.setConsumeBroadcastEnable(false);
        g2.setConsumeEnable(false);
        g2.setConsumeFromMinEnable(false);
        g2.setNotifyConsumerIdsChangedEnable(false);
        g2.setRetryMaxTimes(3);
        g2.setRetryQueueNums(2);
        g2.setWhichBrokerWhenConsumeSlowly(9);
        SubscriptionGroupWrapper gw = new SubscriptionGroupWrapper();
        gw.setDataVersion(version());
        gw.getSubscriptionGroupTable().put("GroupB", g2);
        body("SubscriptionGroupWrapper", gw);

        BrokerData bd = new BrokerData();
        bd.setBrokerName("broker-a");
        bd.setCluster("DefaultCluster");
        HashMap<Long, String> addrs = new HashMap<>();
        addrs.put(0L, "10.0.0.1:10911");
        addrs.put(1L, "10.0.0.2:10911");
        bd.setBrokerAddrs(addrs);
        QueueData qd = new QueueData();
        qd.setBrokerName("broker-a");
        qd.setPerm(6);
        qd.setReadQueueNums(4);
        qd.setWriteQueueNums(5);
        qd.setTopicSysFlag(1);
        TopicRouteData route = new TopicRouteData();
        route.setBrokerDatas(new ArrayList<>(Arrays.asList(bd)));
        route.setQueueDatas(new ArrayList<>(Arrays.asList(qd)));
        route.setOrderTopicConf("broker-a:4");
        route.setFilterServerTable(new HashMap<>());
        body("TopicRouteData", route);
        HashMap<String, List<String>> fs = new HashMap<>();
        fs.put("10.0.0.1:10911", Arrays.asList("a", "b"));
        route.setFilterServerTable(fs);
        route.setOrderTopicConf(null);
        body("TopicRouteData", route);
        bd.setCluster("Клас<тер>\u0001/&'");
        BODIES.append("TopicRouteData.standard\t").append(new String(route.encode(SerializerFeature.BrowserCompatible,
            SerializerFeature.QuoteFieldNames, SerializerFeature.SkipTransientField, SerializerFeature.MapSortField),
            StandardCharsets.UTF_8)).append('\n');
        bd.setCluster("DefaultCluster");
        ClusterInfo ci = new ClusterInfo();
        HashMap<String, BrokerData> bt = new HashMap<>();
        bt.put("broker-a", bd);
        ci.setBrokerAddrTable(bt);
        HashMap<String, Set<String>> ct = new HashMap<>();
        ct.put("DefaultCluster", new TreeSet<>(Arrays.asList("broker-a", "broker-b")));
        ci.setClusterAddrTable(ct);
        body("ClusterInfo", ci);

        body("SubscriptionData", sub());
        ConsumerData cd = new ConsumerData();
        cd.setGroupName("CG");
        cd.setConsumeType(ConsumeType.CONSUME_ACTIVELY);
        cd.setMessageModel(MessageModel.BROADCASTING);
        cd.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_TIMESTAMP);
        cd.setUnitMode(true);
        cd.getSubscriptionDataSet().add(sub());
        ProducerData pd = new ProducerData();
        pd.setGroupName("PG");
        HeartbeatData hb = new HeartbeatData();
        hb.setClientID("10.0.0.9@1");
        hb.getConsumerDataSet().add(cd);
        hb.getProducerDataSet().add(pd);
        body("HeartbeatData", hb);
        CheckClientRequestBody cc = new CheckClientRequestBody();
        cc.setClientId("10.0.0.9@1");
        cc.setGroup("CG");
        cc.setSubscriptionData(sub());
        body("CheckClientRequestBody", cc);
        GetConsumerListByGroupResponseBody ids = new GetConsumerListByGroupResponseBody();
        ids.setConsumerIdList(Arrays.asList("b", "a"));
        body("GetConsumerListByGroupResponseBody", ids);
        LockBatchRequestBody lock = new LockBatchRequestBody();
        lock.setClientId("10.0.0.9@1");
        lock.setConsumerGroup("CG");
        lock.setMqSet(new LinkedHashSet<>(Arrays.asList(mq(0), mq(1))));
        body("LockBatchRequestBody", lock);
        LockBatchResponseBody locked = new LockBatchResponseBody();
        locked.setLockOKMQSet(new LinkedHashSet<>(Arrays.asList(mq(1))));
        body("LockBatchResponseBody", locked);
        body("Connection", connection());
        ConsumerConnection conn = new ConsumerConnection();
        conn.getConnectionSet().add(connection());
        conn.setConsumeType(ConsumeType.CONSUME_ACTIVELY);
        conn.setMessageModel(MessageModel.BROADCASTING);
        conn.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        conn.getSubscriptionTable().put("TopicA", sub());
        body("ConsumerConnection", conn);
        ProducerConnection pconn = new ProducerConnection();
        pconn.getConnectionSet().add(connection());
        body("ProducerConnection", pconn);
        Map<String, List<ProducerInfo>> producers = new HashMap<>();
        producers.put("PG", Arrays.asList(
            new ProducerInfo("10.0.0.9@1", "/10.0.0.9:5555", LanguageCode.CPP, 333, 1700000000000L)));
        body("ProducerTableInfo", new ProducerTableInfo(producers));

        ConsumerOffsetSerializeWrapper co = new ConsumerOffsetSerializeWrapper();
        ConcurrentMap<Integer, Long> offsets = new ConcurrentHashMap<>();
        offsets.put(0, 5L);
        offsets.put(1, 6L);
        co.getOffsetTable().put("TopicA@GroupA", offsets);
        body("ConsumerOffsetSerializeWrapper", co);
        OffsetWrapper ow = new OffsetWrapper();
        ow.setBrokerOffset(10);
        ow.setConsumerOffset(8);
        ow.setLastTimestamp(1700000000000L);
        ConsumeStats cs = new ConsumeStats();
        body("ConsumeStats", cs);
        cs.setConsumeTps(1.5);
        cs.getOffsetTable().put(mq(1), ow);
        body("ConsumeStats", cs);
        ConsumeStatsList csl = new ConsumeStatsList();
        csl.setBrokerAddr("10.0.0.1:10911");
        csl.setTotalDiff(2);
        Map<String, List<ConsumeStats>> one = new HashMap<>();
        one.put("GroupA", Arrays.asList(cs));
        csl.getConsumeStatsList().add(one);
        body("ConsumeStatsList", csl);
        TopicOffset to = new TopicOffset();
        to.setMinOffset(1);
        to.setMaxOffset(10);
        to.setLastUpdateTimestamp(1700000000000L);
        TopicStatsTable ts = new TopicStatsTable();
        ts.getOffsetTable().put(mq(0), to);
        body("TopicStatsTable", ts);
        Map<MessageQueue, Long> table = new LinkedHashMap<>();
        table.put(mq(0), 5L);
        table.put(mq(1), 7L);
        ResetOffsetBody ro = new ResetOffsetBody();
        ro.setOffsetTable(table);
        body("ResetOffsetBody", ro);
        ResetOffsetBodyForC rc = new ResetOffsetBodyForC();
        rc.setOffsetTable(Arrays.asList(new MessageQueueForC("TopicA", "broker-a", 0, 5L),
            new MessageQueueForC("TopicA", "broker-a", 1, 7L)));
        body("ResetOffsetBodyForC", rc);
        GetConsumerStatusBody status = new GetConsumerStatusBody();
        status.setMessageQueueTable(table);
        body("GetConsumerStatusBody", status);
        GetConsumerStatusBody status2 = new GetConsumerStatusBody();
        Map<String, Map<MessageQueue, Long>> byClient = new HashMap<>();
        byClient.put("10.0.0.9@1", table);
        status2.setConsumerTable(byClient);
        body("GetConsumerStatusBody", status2);
        QueryCorrectionOffsetBody qc = new QueryCorrectionOffsetBody();
        Map<Integer, Long> corrections = new TreeMap<>();
        corrections.put(0, 5L);
        corrections.put(10, 6L);
        qc.setCorrectionOffsets(corrections);
        body("QueryCorrectionOffsetBody", qc);
        OffsetMovedEvent moved = new OffsetMovedEvent();
        moved.setConsumerGroup("G");
        moved.setMessageQueue(mq(2));
        moved.setOffsetNew(1);
        moved.setOffsetRequest(9);
        body("OffsetMovedEvent", moved);

        ProcessQueueInfo pq = new ProcessQueueInfo();
        pq.setCachedMsgCount(1);
        pq.setCachedMsgMaxOffset(2);
        pq.setCachedMsgMinOffset(3);
        pq.setCachedMsgSizeInMiB(4);
        pq.setCommitOffset(5);
        pq.setDroped(true);
        pq.setLastConsumeTimestamp(6);
        pq.setLastLockTimestamp(7);
        pq.setLastPullTimestamp(8);
        pq.setLocked(true);
        pq.setTransactionMsgCount(9);
        pq.setTransactionMsgMaxOffset(10);
        pq.setTransactionMsgMinOffset(11);
        pq.setTryUnlockTimes(12);
        ConsumeStatus cst = new ConsumeStatus();
        cst.setConsumeFailedMsgs(1);
        cst.setConsumeFailedTPS(2.5);
        cst.setConsumeOKTPS(3.25);
        cst.setConsumeRT(4.125);
        cst.setPullRT(5.5);
        cst.setPullTPS(12345678.5);
        ConsumerRunningInfo ri = new ConsumerRunningInfo();
        Properties p = new Properties();
        p.setProperty("PROP_CLIENT_VERSION", "V4_9_8");
        ri.setProperties(p);
        ri.setMqTable(new TreeMap<>(Collections.singletonMap(mq(0), pq)));
        ri.setStatusTable(new TreeMap<>(Collections.singletonMap("TopicA", cst)));
        ri.setSubscriptionSet(new TreeSet<>(Arrays.asList(sub())));
        ri.setJstack("main\n\tat X");
        body("ConsumerRunningInfo", ri);
        ConsumeMessageDirectlyResult dr = new ConsumeMessageDirectlyResult();
        dr.setAutoCommit(false);
        dr.setOrder(true);
        dr.setConsumeResult(CMResult.CR_THROW_EXCEPTION);
        dr.setRemark("why");
        dr.setSpentTimeMills(3);
        body("ConsumeMessageDirectlyResult", dr);

        QueueTimeSpan span = new QueueTimeSpan();
        span.setMessageQueue(mq(0));
        span.setConsumeTimeStamp(1700000000500L);
        span.setDelayTime(12);
        span.setMaxTimeStamp(1700000000600L);
        span.setMinTimeStamp(1700000000400L);
        QueryConsumeTimeSpanBody spans = new QueryConsumeTimeSpanBody();
        spans.setConsumeTimeSpanSet(Arrays.asList(span));
        body("QueryConsumeTimeSpanBody", spans);
        BrokerStatsData stats = new BrokerStatsData();
        for (int i = 1; i <= 3; i++) {
            BrokerStatsItem item = new BrokerStatsItem();
            item.setAvgpt(i / 2.0);
            item.setSum(i);
            item.setTps(i / 8.0);
            if (i == 1) stats.setStatsDay(item);
            if (i == 2) stats.setStatsHour(item);
            if (i == 3) stats.setStatsMinute(item);
        }
        body("BrokerStatsData", stats);
        ConsumeQueueData q = new ConsumeQueueData();
        q.setPhysicOffset(100);
        q.setPhysicSize(200);
        q.setTagsCode(2598919);
        q.setEval(true);
        q.setBitMap("0101");
        q.setExtendDataJson("{}");
        q.setMsg("m");
        QueryConsumeQueueResponseBody cq = new QueryConsumeQueueResponseBody();
        cq.setQueueData(Arrays.asList(q));
        cq.setMaxQueueIndex(2);
        cq.setMinQueueIndex(1);
        cq.setFilterData("f");
        cq.setSubscriptionData(sub());
        body("QueryConsumeQueueResponseBody", cq);

        RegisterBrokerBody rb = new RegisterBrokerBody();
        rb.setTopicConfigSerializeWrapper(topics());
        rb.setFilterServerList(new ArrayList<>(Arrays.asList("10.0.0.1:1", "10.0.0.1:2")));
        body("RegisterBrokerBody", rb);
        byte[] packed = rb.encode(true);
        file("registration.hex", hex(packed) + " " + UtilAll.crc32(packed) + "\n");

        KVConfigSerializeWrapper kvc = new KVConfigSerializeWrapper();
        HashMap<String, HashMap<String, String>> namespaces = new HashMap<>();
        namespaces.put("ORDER_TOPIC_CONFIG", new HashMap<>(Collections.singletonMap("TopicA", "broker-a:4")));
        kvc.setConfigTable(namespaces);
        body("KVConfigSerializeWrapper", kvc);
        file("bodies.txt", BODIES.toString());

        file("topics.json", topics().toJson(true));
        TopicConfigSerializeWrapper none = new TopicConfigSerializeWrapper();
        none.setDataVersion(version());
        file("topics-empty.json", none.toJson(true));
        SubscriptionGroupManager sgm = new SubscriptionGroupManager();
        sgm.getSubscriptionGroupTable().clear();
        sgm.getSubscriptionGroupTable().put("GroupB", g2);
        sgm.getDataVersion().setTimestamp(1700000000000L);
        sgm.getDataVersion().setCounter(new AtomicLong(7));
        file("subscriptionGroup.json", sgm.encode(true));
        ConsumerOffsetManager com = new ConsumerOffsetManager();
        ConcurrentHashMap<String, ConcurrentMap<Integer, Long>> all = new ConcurrentHashMap<>();
        all.put("A@G", offsets);
        all.put("B@G", offsets.getClass().getDeclaredConstructor().newInstance());
        com.setOffsetTable(all);
        file("consumerOffset.json", com.encode(true));
        DelayOffsetSerializeWrapper delay = new DelayOffsetSerializeWrapper();
        ConcurrentMap<Integer, Long> levels = new ConcurrentHashMap<>();
        levels.put(1, 10L);
        levels.put(3, 7L);
        delay.setOffsetTable(levels);
        file("delayOffset.json", delay.toJson(true));
        BODIES.setLength(0);
    }

    /** Every header class with every field set, in both serialisations. */
    static void headers() throws Exception {
        StringBuilder rows = new StringBuilder();
        StringBuilder frames = new StringBuilder();
        TreeSet<String> names = new TreeSet<>();
        for (String p : System.getProperty("java.class.path").split(":")) {
            if (!p.matches(".*rocketmq-common-4.9.8.jar")) continue;
            try (JarFile jar = new JarFile(p)) {
                for (Enumeration<JarEntry> e = jar.entries(); e.hasMoreElements(); ) {
                    String n = e.nextElement().getName();
                    if (n.matches("org/apache/rocketmq/common/protocol/header/(namesrv/|filtersrv/)?\\w+\\.class")) {
                        names.add(n.substring(0, n.length() - 6).replace('/', '.'));
                    }
                }
            }
        }
        for (String n : names) {
            Class<?> c = Class.forName(n);
            if (!CommandCustomHeader.class.isAssignableFrom(c) || Modifier.isAbstract(c.getModifiers())) continue;
            Object header = c.getDeclaredConstructor().newInstance();
            rows.append(c.getSimpleName());
            int at = 0;
            for (Class<?> k = c; k != Object.class; k = k.getSuperclass()) {
                for (Field f : k.getDeclaredFields()) {
                    if (Modifier.isStatic(f.getModifiers())) continue;
                    boolean required = false;
                    for (java.lang.annotation.Annotation a : f.getAnnotations()) {
                        required |= a.annotationType().getSimpleName().equals("CFNotNull");
                    }
                    rows.append(' ').append(f.getName()).append(':').append(f.getType().getSimpleName())
                        .append(required ? "!" : "");
                    f.setAccessible(true);
                    at++;
                    Class<?> t = f.getType();
                    if (t == String.class) f.set(header, "text" + at + "\u0001\u0002\"\\ü");
                    else if (t == Integer.class || t == int.class) f.set(header, at * 1000003);
                    else if (t == Long.class || t == long.class) f.set(header, -at * 1000000000003L);
                    else f.set(header, true);
                }
            }
            rows.append('\n');
            for (SerializeType type : SerializeType.values()) {
                RemotingCommand command = RemotingCommand.createRequestCommand(310, (CommandCustomHeader) header);
                command.setOpaque(12345);
                command.setVersion(409);
                command.setSerializeTypeCurrentRPC(type);
                frames.append(c.getSimpleName()).append('\t').append(type).append('\t')
                    .append(frame(command, "body".getBytes())).append('\n');
            }
        }
        file("headers.txt", rows.toString());
        file("frames.txt", frames.toString());
    }

    static void texts() throws Exception {
        StringBuilder out = new StringBuilder();
        for (int c = 0; c <= 0xFFFF; c++) {
            boolean listed = c < 0x180 || 0x2000 <= c && c < 0x2080 || c == 0x4E2D || c == 0xFEFF || c >= 0xFFF0;
            if (!listed) continue;
            String s = "a" + (char) c + "b";
            out.append(String.format("%04x", c)).append('\t')
                .append(hex(JSON.toJSONString(Collections.singletonMap("k", s)).getBytes(StandardCharsets.UTF_8))).append('\t')
                .append(JSON.toJSONString(Collections.singletonMap("k", s), SerializerFeature.BrowserCompatible)).append('\n');
        }
        file("texts.txt", out.toString());
        out.setLength(0);
        Random random = new Random(1);
        BrokerStatsItem item = new BrokerStatsItem();
        for (int i = 0; i < 400; i++) {
            double d = i < 100 ? random.nextInt(100000) / 60.0 : i < 200 ? i / 7.0 : i < 300 ? random.nextDouble() * Math.pow(10, i - 250)
                : (double) random.nextInt(1 << 30) * (i - 299);
            item.setTps(d);
            String json = RemotingSerializable.toJson(item, false);
            out.append(String.format("%016x", Double.doubleToLongBits(d))).append('\t')
                .append(json, json.indexOf("tps") + 5, json.length() - 1).append('\n');
        }
        file("doubles.txt", out.toString());
        out.setLength(0);
        for (MQVersion.Version v : MQVersion.Version.values()) out.append(v).append('\n');
        file("versions.txt", out.toString());
    }

    public static void main(String[] args) throws Exception {
        dir = Paths.get(args[0]);
        System.setProperty(RemotingCommand.REMOTING_VERSION_KEY, "409");
        bodies();
        headers();
        texts();
    }
}
