"""python run_genai.py JOB.json: answers through onnxruntime-genai, with its own template call."""

import json
import sys
from pathlib import Path

import onnxruntime_genai as og

job = json.loads(Path(sys.argv[1]).read_text())
model = og.Model(job["path"])
tokenizer = og.Tokenizer(model)
answers = []
for messages in job["questions"]:
    ids = tokenizer.encode(
        tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True)
    )
    settings = og.GeneratorParams(model)
    settings.set_search_options(max_length=len(ids) + job["tokens"], do_sample=False)
    generator = og.Generator(model, settings)
    generator.append_tokens(ids)
    while not generator.is_done():
        generator.generate_next_token()
    answers.append(tokenizer.decode(generator.get_sequence(0)[len(ids) :]))
print(json.dumps(answers))
