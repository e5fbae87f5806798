"""What stands in a source text: values that a grounded grammar may write.

============  ===============================================================================
``numbers``   numbers of a text, in the ways people write them
``dates``     dates of a text, in the ways people write them
``source``    the text, and how values of a schema are tied to it
``locating``  where the values of a JSON text stand in it
============  ===============================================================================
"""
