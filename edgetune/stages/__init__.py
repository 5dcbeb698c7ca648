"""The stages: plain functions ``run(sections, inputs, out, log) -> facts``, in numbered steps."""
