"""Extraction from files of many documents: in one process, in several, or on a Ray cluster.

=================  ================================================================================
``documents``      reads the input as a stream: a text, or why there is none, for each document
``extractors``     what turns texts into rows: a model that runs here, or a server
``crews``          workers in this process, in others, and (``ray_crew``) on a cluster
``dispatching``    hands batches to workers, again where a worker ended
``store``          the folder of the output: whose run it is, finished rows, the files at last
``run``            all of it: :func:`samplers.extract_files`
=================  ================================================================================

One process alone, that which was started, reads the input and writes the output.  Workers are sent
texts and send rows back, so that a worker that ends in the middle takes nothing with it.
"""
