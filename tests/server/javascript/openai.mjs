// OpenAI's client: sends a recording in each of its ways; prints what comes, a line of JSON each.
import { createReadStream, readFileSync } from "node:fs";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const { base, tls, key, file, file24 } = JSON.parse(process.argv[2]);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key, maxRetries: 0 });
const say = (what) => console.log(JSON.stringify(what));
const ask = (how) => client.audio.transcriptions.create({ file: createReadStream(file), model: "whisper-1", ...how });

try {
  say({ type: "models", ids: (await client.models.list()).data.map((model) => model.id) });
  say({ type: "json", text: (await ask({})).text });
  say({ type: "verbose", answer: await ask({ response_format: "verbose_json", timestamp_granularities: ["word"] }) });
  for await (const event of await ask({ model: "gpt-4o-transcribe", stream: true })) say({ type: "event", event });
} catch (error) {
  say({ type: "refused", name: error.constructor.name, status: error.status, code: error.code });
}
try {
  await ask({ temperature: 7 });
} catch (error) {
  say({ type: "refused", name: error.constructor.name, status: error.status, param: error.param });
}

const realtime = new OpenAIRealtimeWS({ intent: "transcription" }, new OpenAI({ baseURL: `${tls}/v1`, apiKey: key }));
let hasFailed = false;
realtime.on("error", (error) => {
  say({ type: "failed", message: error.message, error: error.error });
  hasFailed = true;
  if (realtime.socket.readyState !== 1) process.exit(0);
});
realtime.on("event", (event) => {
  say({ type: "realtime", event });
  if (event.type === "conversation.item.input_audio_transcription.completed") realtime.close();
});
realtime.socket.on("close", () => process.exit(0));
realtime.socket.on("open", () => {
  const session = { type: "transcription", audio: { input: { turn_detection: null } } };
  realtime.send({ type: "session.update", session });
  realtime.send({ type: "input_audio_buffer.append", audio: "§" }); // no base64
  const audio = readFileSync(file24).subarray(44).toString("base64"); // behind the file's header
  realtime.send({ type: "input_audio_buffer.append", audio });
  realtime.send({ type: "input_audio_buffer.commit" });
});
