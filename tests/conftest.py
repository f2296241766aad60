from hypothesis import settings

# The same examples in every run: a test that fails does so for everyone, and again.
settings.register_profile("lit_optim", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("lit_optim")
