"""Commands for those who write grammars: ``lint``, ``test``, ``convert``, ``fmt``, ``bench``, ``list``."""
