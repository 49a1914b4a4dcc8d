package scenarios;

import java.lang.reflect.Method;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;

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
