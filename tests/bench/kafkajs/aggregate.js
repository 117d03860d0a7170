// The aggregator's work as a Node application does it: KafkaJS with eachMessage, a buffer, a summary for each batch.
// node aggregate.js BROKER TOPIC SINK EVENTS BATCH_SIZE SECONDS
// Ends after EVENTS events or SECONDS seconds (at the next whole batch), whichever is first, and prints what it did.
const { Kafka, logLevel } = require("kafkajs");

const [broker, topic, sink] = process.argv.slice(2, 5);
const [events, batchSize, seconds] = process.argv.slice(5).map(Number);

const kafka = new Kafka({ clientId: "bench", brokers: [broker], logLevel: logLevel.ERROR });
const producer = kafka.producer();
const consumer = kafka.consumer({ groupId: `kafkajs-${sink}` });

let buffer = [];
let opened = 0;
let count = 0;
let summaries = 0;
let begin;
let cpu;

const now = () => Number(process.hrtime.bigint()) / 1e9;

async function publishSummary() {
  const values = buffer.map((event) => event.payload.times);
  const sum = values.reduce((a, b) => a + b, 0);
  const end = Date.now();
  const summary = {
    id: `summary-${end}`,
    timestamp: end,
    aggregationPeriod: { start: opened, end, durationMs: end - opened },
    statistics: {
      totalEvents: values.length,
      sumOfValues: sum,
      averageValue: sum / values.length,
      minValue: Math.min(...values),
      maxValue: Math.max(...values),
    },
    eventSample: buffer.slice(-5),
  };
  buffer = [];
  await producer.send({ topic: sink, messages: [{ value: JSON.stringify(summary) }] });
  summaries += 1;
}

async function main() {
  await producer.connect();
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  await consumer.run({
    eachMessage: async ({ message }) => {
      if (finish === undefined) return;
      if (count === 0) {
        begin = now();
        cpu = process.cpuUsage();
      }
      if (buffer.length === 0) opened = Date.now();
      buffer.push(JSON.parse(message.value.toString()));
      count += 1;
      if (buffer.length < batchSize) return;
      await publishSummary();
      if (count < events && now() - begin < seconds) return;
      const used = process.cpuUsage(cpu);
      finish({ events: count, summaries, done_s: now() - begin, cpu_s: (used.user + used.system) / 1e6 });
      finish = undefined;
    },
  });
  console.log(JSON.stringify(await finished));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
