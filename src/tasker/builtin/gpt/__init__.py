"""The task type `gpt`: a language model, by the OpenAI API or on this machine."""
