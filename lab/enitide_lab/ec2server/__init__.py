"""The strict EC2 on the wire: moto's server with the ENI verbs answered by the model. Start with `app.py`."""
