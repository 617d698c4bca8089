"""Readers, decoded images, augmentation and batches."""
