"""Draft, verify, commit: the parts of :class:`samplers.backend.SpeculativeBackend`.

* :mod:`~samplers.speculative.tree`: what is drafted;
* :mod:`~samplers.speculative.target`: what is sampled from, as persistent states with weights;
* :mod:`~samplers.speculative.cache` and :mod:`~samplers.speculative.scorer`: a model that scores a
  whole tree in one forward, and takes back what was not accepted;
* :mod:`~samplers.speculative.law` and :mod:`~samplers.speculative.verify`: how tokens are drawn, so
  that a draft changes nothing but speed; :mod:`~samplers.speculative.typical`: the lossy alternative;
* :mod:`~samplers.speculative.schedule`: which drafts are worth a place in the tree.
"""
