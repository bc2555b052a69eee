"""`ModelInfer` by its bytes: requests that look like one seen before are answered without protobuf objects.

`scan` finds where the parts of a message lie, `plan` keeps what was found out about one kind of request, and
`reply` writes answers. Whatever they do not know goes the long way, through protobuf and every check.
"""
