"""python run_transformers.py JOB.json: answers through transformers, of whatever version runs it.

An ONNX folder is opened by optimum, a GGUF file through ``gguf_file``, another folder as it is.
"""

import json
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

job = json.loads(Path(sys.argv[1]).read_text())
path = Path(job["path"])
if path.suffix == ".gguf":
    given = {"gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **given)
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype="float32", **given)
elif (path / "genai_config.json").exists():
    from optimum.onnxruntime import ORTModelForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = ORTModelForCausalLM.from_pretrained(path)
else:
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
answers = []
for messages in job["questions"]:
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = model.generate(**prompt, max_new_tokens=job["tokens"], do_sample=False)[0]
    answers.append(tokenizer.decode(ids[prompt["input_ids"].shape[1] :], skip_special_tokens=True))
print(json.dumps(answers))
