"""The C++ client, through PyPI's rocketmq: sends to and receives from the name servers given, prints a transcript.

Usage: round_trip.py NAME_SERVERS PREFIX
"""
import sys
import threading
import time

from rocketmq.client import Message, Producer, PushConsumer

COUNT = 10


def main(name_servers, prefix):
    topic = prefix + "cpp-topic"
    producer = Producer(prefix + "cpp-producer")
    producer.set_namesrv_addr(name_servers)
    producer.start()
    print("== cpp-send")
    for i in range(COUNT):
        message = Message(topic)
        message.set_keys("key-%d" % i)
        message.set_tags("tag%d" % (i % 2))
        message.set_property("shade", "blue %d" % i)
        message.set_body("body %d" % i)
        result = producer.send_sync(message)  # raises unless the broker took it
        print("sent %d: %s" % (i, result.status))
    message = Message(topic)
    message.set_body("one way")
    producer.send_oneway(message)

    received = {}
    lock = threading.Lock()

    def listen(message):
        with lock:
            body = message.body.decode()
            received[body] = "%s keys=%s tags=%s shade=%s" % (
                body, message.keys, message.tags, message.get_property("shade"))

    consumer = PushConsumer(prefix + "cpp-consumer")
    consumer.set_namesrv_addr(name_servers)
    consumer.subscribe(topic, listen)
    consumer.start()
    deadline = time.monotonic() + 90
    while len(received) < COUNT + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    print("== cpp-receive")
    for body in sorted(received):
        print("received " + received[body])
    sys.stdout.flush()
    consumer.shutdown()
    producer.shutdown()
    return 0 if len(received) == COUNT + 1 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
