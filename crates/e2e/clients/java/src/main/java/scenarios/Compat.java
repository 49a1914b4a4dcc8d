package scenarios;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;

/** The few calls whose types moved between the 4.9 and the 5.3 client; everything else compiles for both. */
final class Compat {
    private Compat() {
    }

    /** 5.x wants a map of topic attributes as well. */
    static void createTopic(DefaultMQProducer producer, String topic, int queues) throws Exception {
        for (Method method : DefaultMQProducer.class.getMethods()) {
            Class<?>[] types = method.getParameterTypes();
            if (!method.getName().equals("createTopic") || types[2] != int.class) {
                continue;
            }
            if (types.length == 3) {
                method.invoke(producer, "TBW102", topic, queues);
                return;
            }
            if (types.length == 4 && types[3] == Map.class) {
                method.invoke(producer, "TBW102", topic, queues, Map.of());
                return;
            }
        }
        throw new NoSuchMethodException("createTopic");
    }

    /**
     * What a group has committed for a queue, or -1. Asked through a producer, because a consumer would join the group;
     * the types of the internal call moved.
     */
    static long committed(DefaultMQProducer producer, String group, MessageQueue queue) throws Exception {
        Object factory = call(producer.getDefaultMQProducerImpl(), "getMqClientFactory");
        Object address = call(factory, "findBrokerAddressInPublish", queue.getBrokerName());
        Object api = call(factory, "getMQClientAPIImpl");
        for (Method method : api.getClass().getMethods()) {
            if (method.getName().equals("queryConsumerOffset")) {
                Object header = method.getParameterTypes()[1].getDeclaredConstructor().newInstance();
                call(header, "setConsumerGroup", group);
                call(header, "setTopic", queue.getTopic());
                call(header, "setQueueId", queue.getQueueId());
                try {
                    return (long) method.invoke(api, address, header, 5000L);
                } catch (InvocationTargetException notFound) {
                    return -1;
                }
            }
        }
        throw new NoSuchMethodException("queryConsumerOffset");
    }

    private static Object call(Object target, String name, Object... arguments) throws Exception {
        for (Method method : target.getClass().getMethods()) {
            if (method.getName().equalsIgnoreCase(name) && method.getParameterCount() == arguments.length) {
                return method.invoke(target, arguments);
            }
        }
        throw new NoSuchMethodException(name);
    }

    /** MessageModel lives in another package in 5.x. */
    static void broadcasting(DefaultMQPushConsumer consumer) throws Exception {
        for (Method method : DefaultMQPushConsumer.class.getMethods()) {
            if (method.getName().equals("setMessageModel")) {
                for (Object model : method.getParameterTypes()[0].getEnumConstants()) {
                    if (model.toString().equals("BROADCASTING")) {
                        method.invoke(consumer, model);
                        return;
                    }
                }
            }
        }
        throw new NoSuchMethodException("setMessageModel");
    }
}
