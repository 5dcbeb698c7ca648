// In a page: answers through transformers.js and WebAssembly.
import {env, pipeline} from "/node_modules/@huggingface/transformers/dist/transformers.min.js";

export async function answer(job) {
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = "/model/";
  // The build that it takes by default, from a CDN, served here: ONNX Runtime's for WebGPU.
  const build = "/node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify";
  env.backends.onnx.wasm.wasmPaths = {mjs: `${build}.mjs`, wasm: `${build}.wasm`};
  const generate = await pipeline("text-generation", job.name, {device: "wasm"});
  const answers = [];
  for (const messages of job.questions) {
    const [answer] = await generate(messages, {max_new_tokens: job.tokens, do_sample: false});
    answers.push(answer.generated_text.at(-1).content);
  }
  return answers;
}
