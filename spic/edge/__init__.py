"""The edge: pictures in, streams out, answers back; needs no torch.

    bundle   what `spic export` wrote, read and checked         sources  pictures from files, folders, videos, cameras
    runtime  the edge half by ONNX Runtime                      spool    what waits for the server, on disk or in memory
    network  the edge half by torch, where there is no bundle   client   HTTP
    encode   a picture to a payload                             sender   tries again until it is answered
    rate     which point a picture takes                        report   what is told
"""
