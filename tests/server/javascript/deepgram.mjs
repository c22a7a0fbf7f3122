// Deepgram's client: sends a recording over the WebSocket and by POST; prints what comes, a line of JSON each.
import { readFileSync } from "node:fs";
import { DeepgramClient } from "@deepgram/sdk";

const { base, key, file, query } = JSON.parse(process.argv[2]);
const production = base.replace("http", "ws");
const client = new DeepgramClient({
  apiKey: key,
  environment: { base, production, agent: production, agentRest: base },
  maxRetries: 0,
});
const say = (what) => console.log(JSON.stringify(what));
const audio = readFileSync(file);

try {
  const answer = await client.listen.v1.media.transcribeFile(audio, query);
  say({ type: "answer", answer });
} catch (error) {
  say({ type: "refused", status: error.statusCode, body: error.body });
}

const raw = { encoding: "linear16", sample_rate: 16000, reconnectAttempts: 0 };
const stream = await client.listen.v1.connect({ ...query, ...raw });
stream.on("error", (error) => {
  say({ type: "failed", message: String(error.message ?? error) });
  process.exit(0);
});
stream.on("close", (event) => {
  say({ type: "closed", code: event.code });
  process.exit(0);
});
stream.on("message", say);
stream.connect();
await stream.waitForOpen();
const speech = audio.subarray(44); // behind the file's header
const half = Math.floor(speech.length / 6400) * 3200;
for (let at = 0; at < speech.length; at += 3200) {
  if (at === half) stream.sendFinalize({ type: "Finalize" });
  stream.sendMedia(speech.subarray(at, at + 3200));
}
stream.sendKeepAlive({ type: "KeepAlive" });
stream.sendCloseStream({ type: "CloseStream" });
