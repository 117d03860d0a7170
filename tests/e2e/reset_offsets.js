// Sets a group that nobody reads with back to the beginning of a topic: node reset_offsets.js BOOTSTRAP GROUP TOPIC
const { Kafka, logLevel } = require("kafkajs");

const [bootstrap, groupId, topic] = process.argv.slice(2);

async function main() {
  const admin = new Kafka({ clientId: "reset-offsets", brokers: [bootstrap], logLevel: logLevel.ERROR }).admin();
  await admin.connect();
  await admin.resetOffsets({ groupId, topic, earliest: true });
  await admin.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
