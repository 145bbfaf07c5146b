"""The classifier of crops: its data, model, loss and training, and the stage that runs them.

Only this package imports timm and Lightning; ``stage`` loads them when its function is called.
"""
