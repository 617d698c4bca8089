"""Readers, decoded pictures, augmentation and batches."""
