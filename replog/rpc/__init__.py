"""The services' protocol: `.proto` files, the messages generated from them (committed) and what names the methods.

`replog/rpc/generate.py` makes ``*_pb2.py`` and ``*_pb2.pyi`` anew; CI runs it with ``--check``. There are no generated stubs: the services
take and give bytes (see `replog.rpc.methods`), because the gateways parse for themselves and answer rubbish with a named error.
"""
