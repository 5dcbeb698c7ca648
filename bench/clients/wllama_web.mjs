// In a page: answers through wllama, llama.cpp in WebAssembly.
import {Wllama} from "/node_modules/@wllama/wllama/esm/index.js";

export async function answer(job) {
  const wllama = new Wllama({default: "/node_modules/@wllama/wllama/esm/wasm/wllama.wasm"});
  await wllama.loadModelFromUrl(new URL(`/model/${job.name}`, location.href).href, {n_threads: 1});
  const answers = [];
  for (const messages of job.questions) {
    const answer = await wllama.createChatCompletion({
      messages, max_tokens: job.tokens, temperature: 0,
    });
    answers.push(answer.choices[0].message.content);
  }
  return answers;
}
