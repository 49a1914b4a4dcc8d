// npm's ali-ons, a client written in JavaScript: sends and receives, prints a transcript.
// Usage: node round_trip.js NAME_SERVER TOPIC PREFIX (the topic must exist: this client does not create any)
'use strict';

const { Consumer, Message, Producer } = require('ali-ons');

const COUNT = 10;
const [nameSrv, topic, prefix] = process.argv.slice(2);
const quiet = { info() {}, warn() {}, debug() {}, error(...args) { console.error(...args); } };
// Required, and asked only for the addresses of name servers, which are given.
const httpclient = { request() { throw new Error('nothing is fetched over HTTP here'); } };
const common = { nameSrv, httpclient, accessKeyId: 'unused', accessKeySecret: 'unused', logger: quiet };

async function main() {
  const producer = new Producer({ ...common, producerGroup: prefix + 'node-producer' });
  await producer.ready();
  console.log('== node-send');
  for (let i = 0; i < COUNT; i++) {
    const message = new Message(topic, 'tag' + i % 2, 'body ' + i);
    message.keys = ['key-' + i];
    const result = await producer.send(message);
    console.log('sent %d: %s', i, result.sendStatus);
  }

  const received = new Map();
  const consumer = new Consumer({ ...common, consumerGroup: prefix + 'node-consumer', consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET' });
  const all = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`${received.size} of ${COUNT} messages after 60 s`)), 60_000).unref();
    consumer.subscribe(topic, '*', async message => {
      received.set(message.body.toString(), `keys=${message.keys} tags=${message.tags} reconsumed=${message.reconsumeTimes}`);
      if (received.size === COUNT) {
        resolve();
      }
    });
  });
  await consumer.ready();
  await all;
  console.log('== node-receive');
  for (const body of [...received.keys()].sort()) {
    console.log('received %s %s', body, received.get(body));
  }
}

main().then(() => process.exit(0), e => {
  console.error(e.stack);
  process.exit(1);
});
