"""Past one machine: recognition by a pool of workers that several servers share, and full passes, on Ray.

May import weights and all below. Begin with `engine`, the server's side; `bridge` is the process between it
and Ray, and `actor` what runs on a worker. Only processes of their own import Ray, and only where a setting
asks for it.
"""
