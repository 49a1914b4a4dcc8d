import java.util.Properties;
import java.util.TreeMap;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.namesrv.NamesrvConfig;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyServerConfig;
import org.apache.rocketmq.store.config.MessageStoreConfig;

/**
 * Prints every key of RocketMQ's server configuration with its default, as "broker" or "namesrv", key=value.
 * Run with the class path of a RocketMQ 4.9 server:
 *
 * java -Duser.home=/home/user -Drocketmq.home.dir=/opt/rocketmq -cp ... Defaults.java > defaults.txt
 */
public class Defaults {
    static void print(String daemon, Object... configs) {
        TreeMap<Object, Object> all = new TreeMap<>();
        for (Object config : configs) {
            Properties properties = MixAll.object2Properties(config);
            all.putAll(properties);
        }
        all.forEach((key, value) -> System.out.println(daemon + " " + key + "=" + value));
    }

    public static void main(String[] args) {
        print("broker", new NettyClientConfig(), new NettyServerConfig(), new MessageStoreConfig(), new BrokerConfig());
        print("namesrv", new NettyServerConfig(), new NamesrvConfig());
    }
}
