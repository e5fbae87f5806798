"""Extraction from files of many documents: in one process, in several, or on a Ray cluster.

========================  ==========================================================================
:mod:`~.documents`        reads the input as a stream: a text, or why there is none, for each document
:mod:`~.extractors`       what turns texts into rows: a model that runs here, or a server
:mod:`~.crews`            workers in this process, in others, and (:mod:`~.ray_crew`) on a cluster
:mod:`~.dispatching`      hands batches to workers, again where a worker ended
:mod:`~.store`            the folder of the output: which run it is of, finished rows, the files at last
:mod:`~.run`              all of it: :func:`samplers.extract_files`
========================  ==========================================================================

One process alone, that which was started, reads the input and writes the output.  Workers are sent
texts and send rows back, so that a worker that ends in the middle takes nothing with it.
"""
