// node JOB.json: answers through node-llama-cpp's chat session, as README.md of an export folder has it.
import {readFileSync} from "node:fs";
import {getLlama, LlamaChatSession} from "node-llama-cpp";

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
// One thread: more of them wait for each other in a loop, for minutes on a busy machine.
const llama = await getLlama({build: "never", gpu: false, maxThreads: 1});
const model = await llama.loadModel({modelPath: job.path});
const context = await model.createContext({contextSize: 512, threads: 1});
const sequence = context.getSequence();
const answers = [];
for (const messages of job.questions) {
  await sequence.clearHistory();
  const system = messages.find((turn) => turn.role === "system")?.content ?? "";
  const session = new LlamaChatSession({contextSequence: sequence, systemPrompt: system});
  answers.push(await session.prompt(messages.at(-1).content, {temperature: 0, maxTokens: job.tokens}));
  session.dispose({disposeSequence: false});
}
console.log(JSON.stringify(answers));
await llama.dispose();
