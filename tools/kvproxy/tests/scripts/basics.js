// ioredis's basics: basics.js PORT PATH-OF-IOREDIS
const assert = require("assert");
const Redis = require(process.argv[3]);

async function basics() {
  const client = new Redis({ host: "127.0.0.1", port: Number(process.argv[2]), connectionName: "basics" });
  assert.equal(await client.ping(), "PONG");
  assert.equal(await client.set("js:a", "1"), "OK");
  assert.equal(await client.get("js:a"), "1");
  assert.equal(await client.mset({ "js:b": "2", "js:c": "3" }), "OK");
  assert.deepEqual(await client.mget("js:a", "js:none", "js:c"), ["1", null, "3"]);
  const answers = await client.pipeline().set("js:d", "4").get("js:d").strlen("js:d").exists("js:d").exec();
  assert.deepEqual(answers, [[null, "OK"], [null, "4"], [null, 1], [null, 1]]);
  assert.equal(await client.del("js:a", "js:b", "js:none"), 2);
  assert.equal(await client.unlink("js:c", "js:d"), 2);
  await assert.rejects(client.incr("js:a"), /unknown command/);
  client.disconnect();
  console.log("all is well");
}

basics().catch((error) => { console.error(error); process.exit(1); });
