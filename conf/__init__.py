"""The config groups, as a package: another Hydra app reaches them with ``hydra.searchpath: [pkg://lit_optim.conf]``."""
