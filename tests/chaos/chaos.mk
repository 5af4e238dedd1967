.PHONY: chaos mutations

chaos: install  ## 20 kills over 10,000 events, scaling, broker restarts; CHAOS="--seed 7" for more
	$(BIN)/python -m tests.chaos $(CHAOS)

mutations: install  ## tests of the tests: promises are taken out of the code, one at a time
	$(BIN)/python -m tests.mutations
