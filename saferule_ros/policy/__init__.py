"""From a torch module to a policy that may serve: export, bundle, store, gate, runtime, failsafe.

Only `export` uses torch, inside its functions: serving never loads it.
"""
