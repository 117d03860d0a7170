// Writes events to a topic and reads them back with a consumer group, as an application with KafkaJS would.
// node kafkajs_client.js BOOTSTRAP TOPIC FIRST COUNT: prints what it read, a JSON array of numbers, sorted.
const { Kafka, logLevel } = require("kafkajs");

const [bootstrap, topic, first, count] = process.argv.slice(2);
const wanted = Array.from({ length: Number(count) }, (_, i) => Number(first) + i);

async function main() {
  const kafka = new Kafka({ clientId: "kafkajs-test", brokers: [bootstrap], logLevel: logLevel.ERROR });
  const consumer = kafka.consumer({ groupId: `kafkajs-${process.pid}`, sessionTimeout: 6000, heartbeatInterval: 500 });
  const seen = new Set();
  let all;
  const done = new Promise((resolve) => (all = resolve));
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message }) => {
      const number = JSON.parse(message.value.toString()).payload?.times;
      if (wanted.includes(number)) seen.add(number);
      if (seen.size === wanted.length) all();
    },
  });
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({
    topic,
    acks: -1,
    messages: wanted.map((times) => ({ key: `k${times % 3}`, value: JSON.stringify({ payload: { date: Date.now(), times } }) })),
  });
  await producer.disconnect();
  await done;
  await consumer.disconnect();
  console.log(JSON.stringify([...seen].sort((a, b) => a - b)));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
