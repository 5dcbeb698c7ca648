// node JOB.json: answers through transformers.js in Node; the model is named, nothing else is said.
import {readFileSync} from "node:fs";
import path from "node:path";
import {env, pipeline} from "@huggingface/transformers";

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
env.allowRemoteModels = false;
env.localModelPath = path.dirname(job.path);
const generate = await pipeline("text-generation", path.basename(job.path));
const answers = [];
for (const messages of job.questions) {
  const [answer] = await generate(messages, {max_new_tokens: job.tokens, do_sample: false});
  answers.push(answer.generated_text.at(-1).content);
}
console.log(JSON.stringify(answers));
