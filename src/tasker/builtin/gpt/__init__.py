"""The task type `gpt`: text from a language model, OpenAI's or the local one."""
